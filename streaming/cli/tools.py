"""Commands to look and measure: demo, loadgen, bench, devices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ossicle.streaming.cli.options import Ca, Json, Model, Remote, Server, Tls, Token
from ossicle.streaming.cli.output import show


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (demo, loadgen, bench, devices):
        app.command()(command)


def demo(
    file: Annotated[str, typer.Argument(help="Audio file; else a scene made on the spot.")] = "",
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for what comes out.")] = "out",
    query: Annotated[str, typer.Option(help="What to separate.")] = "",
    kbps: Annotated[float, typer.Option(help="Rate of the codec.")] = 3.0,
    seconds: Annotated[float, typer.Option(help="Play at most so much.")] = 40.0,
    json: Json = False,
) -> None:
    """Show everything at once: a real server, a real scene, in real time."""
    from ossicle.streaming.demo import run_demo

    report = run_demo(file or None, out, query=query, kbps=kbps, seconds=seconds, view=not json)
    if json:
        show(report, True, str)


def loadgen(
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    task: Annotated[list[str] | None, typer.Option(help="encode, caption, ...")] = None,
    model: Model = "",
    streams: Annotated[int, typer.Option(help="At once; 0: search for the capacity.")] = 10,
    seconds: Annotated[float, typer.Option(help="How long each step lasts.")] = 10.0,
    budget_ms: Annotated[float, typer.Option(help="p99 that counts as kept.")] = 20.0,
    message_ms: Annotated[float, typer.Option(help="Audio in one message.")] = 20.0,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for JSON and PNG.")] = "",
    json: Json = False,
) -> None:
    """Load a server with real-time streams on an open loop, and report the percentiles."""
    from ossicle.streaming.loadgen import Plan, run_load
    from ossicle.streaming.loadgen.report import load_table

    plan = Plan(
        tasks=tuple(task or ("encode",)),
        model=model,
        streams=streams,
        seconds=seconds,
        budget_ms=budget_ms,
        message_ms=message_ms,
    )
    remote = Remote(server, token, tls_ca, tls) if server else None
    report = run_load(plan, remote, out or None)
    show(report, json, lambda: load_table(report))
    if not report["kept"]:
        raise typer.Exit(1)


def bench(
    model: Annotated[
        list[str] | None,
        typer.Argument(help="Bundles; else all installed. `kernels`: the CPU kernels instead."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Kernels: seconds, rougher.")] = False,
    json: Json = False,
) -> None:
    """Measure what one step of each model costs here, by batch size; or the kernels."""
    if model == ["kernels"]:
        raise typer.Exit(_bench_kernels(json, quick))
    from ossicle.runtime.engine import Engine
    from ossicle.streaming.server.config import Settings
    from ossicle.streaming.server.models import load_models

    loaded = load_models(Settings(models=tuple(model or ())))
    costs = Engine(loaded).calibrate()
    show(costs, json, lambda: _cost_table(costs, loaded))


def _bench_kernels(as_json: bool, quick: bool) -> int:
    """The table of the kernels against their opponents, from a process of one thread."""
    import subprocess
    import sys
    from json import loads

    from ossicle.kernels.bench import one_thread

    command = [sys.executable, "-m", "ossicle.kernels.bench", *(["--quick"] if quick else [])]
    done = subprocess.run(command, env=one_thread(), stdout=subprocess.PIPE, check=True)
    rows = loads(done.stdout)
    show(rows, as_json, lambda: _kernel_table(rows))
    return 0 if all(row["correct"] for row in rows) else 1


def _kernel_table(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    from ossicle.kernels.bench.timing import HEAD, cells

    table = Table(*HEAD)
    for row in rows:
        *left, check = cells(row)
        table.add_row(*left, "[green]✓ equal[/]" if row["correct"] else f"[red]✗ {check}[/]")
    return table


def _cost_table(costs: dict[str, dict[int, float]], loaded: dict[str, Any]) -> Any:
    from rich.table import Table

    sizes = sorted({size for table in costs.values() for size in table})
    table = Table("program", "hop", *(f"batch {size}" for size in sizes), "streams a core")
    for name, found in costs.items():
        manifest = loaded[name.rpartition(".")[0]].manifest
        hop_us = 1e6 * manifest.hop / manifest.sample_rate_hz
        best = max(size * hop_us / us for size, us in found.items())
        cells = [f"{found[size]:.0f} us" if size in found else "" for size in sizes]
        table.add_row(name, f"{hop_us / 1000:g} ms", *cells, f"{best:.0f}")
    return table


def devices(json: Json = False) -> None:
    """List the sound devices."""
    from ossicle.streaming.client.device import devices as found

    rows = found()
    show(rows, json, lambda: _device_table(rows))


def _device_table(rows: list[Any]) -> Any:
    from rich.table import Table

    table = Table("", "name", "host", "in", "out", "Hz")
    for d in rows:
        mark = ("*" if d.default_input else "") + ("o" if d.default_output else "")
        table.add_row(
            f"{d.index}{mark}", d.name, d.host, str(d.inputs), str(d.outputs), str(d.rate_hz)
        )
    return table
