"""Commands around models: models, verify, import, pull, export."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer

from ossicle.streaming.cli.options import Ca, Json, Remote, Server, Tls, Token
from ossicle.streaming.cli.output import download_bar, show

export_app = typer.Typer(help="Write a bundle in another system's form.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(models)
    app.command()(verify)
    app.command("import")(import_)
    app.command()(pull)
    app.add_typer(export_app, name="export")
    export_app.command("triton-repo")(triton_repo)
    export_app.command()(tensorrt)


def exporting() -> Any:
    """Return the commands that make models; they need the extra ``export``."""
    return importlib.import_module("ossicle.export.commands")


def models(
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    json: Json = False,
) -> None:
    """List the models installed here, and those that can be pulled; or a server's."""
    if server:
        with Remote(server, token, tls_ca, tls).connect() as client:
            found = client.models()
        known: list[Any] = []
    else:
        from ossicle.streaming.catalogue import installed

        found = installed()
        known = _pullable({info.name for info in found})
    rows = [
        {
            "name": info.name,
            "task": info.task,
            "latency_class": info.latency_class.value if info.latency_class else "",
            "version": info.version,
            "license": info.license,
            "sample_rate_hz": info.sample_rate_hz,
            "hop_samples": info.hop_samples,
            "latency_samples": info.latency_samples,
            "labels": list(info.labels),
            "state": "installed",
        }
        for info in found
    ]
    show(rows, json, lambda: _table(rows, known))


def _pullable(have: set[str]) -> list[tuple[str, str, str]]:
    try:
        rows = exporting().models_command()
    except ImportError:
        return []
    return [row for row in rows if row[0] not in have]


def _table(rows: list[dict[str, Any]], known: list[tuple[str, str, str]]) -> Any:
    from rich.table import Table

    table = Table("name", "task", "class", "latency", "licence", "")
    for row in rows:
        ms = 1000 * row["latency_samples"] / row["sample_rate_hz"]
        table.add_row(
            row["name"], row["task"], row["latency_class"], f"{ms:.1f} ms", row["license"],
            row["state"],
        )  # fmt: skip
    for name, state, about in known:
        table.add_row(name, about, "", "", "", state)
    return table


def verify(
    bundle: Annotated[str, typer.Argument(help="Bundle by name or path, or an .onnx file.")],
    law: Annotated[
        list[str] | None, typer.Option(help="Only this law (reset, golden, ...); repeatable.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="ort, ort-cuda, native, native-bf16, auto or tensorrt.")
    ] = "ort",
    json: Json = False,
) -> None:
    """Try every law of streaming on a model; exit 1 where one does not hold."""
    from ossicle.runtime.conformance import LAWS
    from ossicle.runtime.conformance import verify as run

    unknown = [name for name in law or () if name not in LAWS]
    if unknown:
        raise typer.BadParameter(f"no law {', '.join(unknown)}; the laws are {', '.join(LAWS)}")
    report = run(bundle, backend, law)
    show(report.to_dict(), json, report.table)
    if not report.ok:
        broken = report.first_broken
        assert broken is not None
        from rich.console import Console

        Console(stderr=True).print(f"first broken law: {broken.law} ({broken.measured})")
        raise typer.Exit(1)


def import_(
    family: Annotated[str, typer.Argument(help="lyra, yamnet, gtcrn, dtln, silero-vad, encodec.")],
    path: Annotated[str, typer.Argument(help="Its file or folder; encodec: or a hub's name.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the bundle to write.")],
    json: Json = False,
) -> None:
    """Turn a public checkpoint into a bundle."""
    with download_bar("import", not json) as progress:
        bundle = exporting().import_command(family, path, out, progress)
    about = {"name": bundle.manifest.name, "task": bundle.manifest.task, "path": out}
    show(about, json, lambda: f"{about['name']} written to {out}; try: ossicle verify {out}")


def pull(
    name: Annotated[str, typer.Argument(help="A model that `ossicle models` lists.")],
    accept_license: Annotated[
        str, typer.Option(help="Name the licence, where it is not a permissive one.")
    ] = "",
    json: Json = False,
) -> None:
    """Download, check and import a public model."""
    with download_bar("pull", not json) as progress:
        bundle = exporting().pull_command(
            name, accept_license=accept_license or None, progress=progress
        )
    about = {"name": bundle.manifest.name, "task": bundle.manifest.task}
    show(about, json, lambda: f"{about['name']} is installed; try: ossicle verify {name}")


def triton_repo(
    bundle: Annotated[str, typer.Argument(help="Bundle by name or path.")],
    out: Annotated[str, typer.Argument(help="Folder of the model repository.")],
    json: Json = False,
) -> None:
    """Write a model repository for NVIDIA Triton Inference Server."""
    place = exporting().export_triton_repo_command(bundle, out)
    show({"path": str(place)}, json, lambda: f"model repository written to {place}")


def tensorrt(
    bundle: Annotated[str, typer.Argument(help="Bundle by name or path.")],
    graph: Annotated[
        list[str] | None, typer.Option(help="Only this graph; repeatable. All by default.")
    ] = None,
    rebuild: Annotated[bool, typer.Option(help="Build again what the cache holds.")] = False,
    check: Annotated[
        bool, typer.Option(help="Only compare the graphs with TensorRT's operator tables.")
    ] = False,
    json: Json = False,
) -> None:
    """Build TensorRT engines for this machine's GPU; TensorRT 10 or 11 must be installed."""
    if check:
        _check_tables(bundle, json)
        return
    made = exporting().export_tensorrt_command(bundle, graph or (), rebuild=rebuild)
    rows = {name: str(path) for name, path in made.items()}
    show(rows, json, lambda: "\n".join(f"{name}: {path}" for name, path in rows.items()))


def _check_tables(bundle: str, json: bool) -> None:
    """Print what each graph holds that a release does not run; exit 1 where there is any."""
    found = exporting().check_tensorrt_command(bundle)

    def table() -> Any:
        from rich.table import Table

        releases = list(next(iter(found.values()), {}))
        made = Table("graph", *(f"TensorRT {release}" for release in releases))
        for name, rows in found.items():
            made.add_row(name, *(", ".join(rows[r]) or "covered" for r in releases))
        return made

    show(found, json, table)
    if any(rows for graph in found.values() for rows in graph.values()):
        raise typer.Exit(1)
