"""Commands on files and pipes: encode and decode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ossicle.streaming.cli.options import Ca, Json, Model, Quiet, Remote, Server, Tls, Token
from ossicle.streaming.cli.output import progress_bar, show

In = Annotated[str, typer.Argument(help="Audio file, or - for standard input.", metavar="IN")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (encode, decode):
        app.command()(command)


def encode(
    source: In,
    out: Annotated[str, typer.Argument(help="The .osc file, or - .", metavar="OUT")],
    kbps: Annotated[float, typer.Option(help="Rate of the codes; whole layers.")] = 3.0,
    layers: Annotated[int, typer.Option(help="Layers instead of a rate.")] = 0,
    frames: Annotated[int, typer.Option(help="Frames a packet; 0: as many as may be.")] = 0,
    dtx: Annotated[bool, typer.Option(help="Only noise descriptors in silence.")] = False,
    model: Model = "",
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Encode audio into a small .osc file: ossicle encode talk.wav talk.osc --kbps 3.

    Channels are mixed to one; the summary says so.
    """
    from ossicle.streaming.codec.commands import encode_file
    from ossicle.streaming.codec.packet import MAX_FRAMES

    with progress_bar("encode", not quiet) as progress:
        if server:
            from ossicle.streaming.cli.remote import encode_remote

            done: Any = encode_remote(
                Remote(server, token, tls_ca, tls),
                source,
                out,
                kbps=kbps,
                layers=layers,
                frames=frames or MAX_FRAMES,
                dtx=dtx,
                model=model,
                progress=progress,
            )
        else:
            done = encode_file(
                source,
                out,
                kbps,
                model or "codec-16k",
                layers=layers or None,
                frames=frames or MAX_FRAMES,
                silence_dbfs=-60.0 if dtx else None,
                progress=progress,
            )
    _summary(done, out, quiet, json)


def decode(
    source: Annotated[str, typer.Argument(help="The .osc file, or - .", metavar="IN")],
    out: Annotated[str, typer.Argument(help="Audio file, or - for WAV.", metavar="OUT")],
    layers: Annotated[int, typer.Option(help="Decode at most so many; 0: all.")] = 0,
    rate: Annotated[int, typer.Option("--rate", help="Hz of the output; 0: the source's.")] = 0,
    start: Annotated[float, typer.Option(help="Begin at this second.")] = 0.0,
    stop: Annotated[float, typer.Option(help="End at this second; 0: the end.")] = 0.0,
    partial: Annotated[bool, typer.Option(help="Keep what a cut file still holds.")] = False,
    model: Model = "",
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Decode an .osc file to audio of the same length."""
    from ossicle.streaming.codec.commands import decode_file

    with progress_bar("decode", not quiet) as progress:
        if server:
            from ossicle.runtime.errors import WireError
            from ossicle.streaming.cli.remote import decode_remote

            if start or stop or partial:
                raise WireError("--start, --stop and --partial work without --server only")
            done: Any = decode_remote(
                Remote(server, token, tls_ca, tls), source, out, layers, rate, model
            )
        else:
            done = decode_file(
                source,
                out,
                layers or None,
                model=model or None,
                rate_hz=rate or None,
                start_s=start,
                stop_s=stop or None,
                partial=partial,
                progress=progress,
            )
    _summary(done, out, quiet, json)


def _summary(done: Any, out: str, quiet: bool, json: bool) -> None:
    if quiet and not json:
        return
    seconds = done.seconds if hasattr(done, "seconds") else done["seconds"]
    rate = getattr(done, "payload_kbps", None)
    more = "" if rate is None else f", {rate:.2f} kbps of codes"
    if getattr(done, "channels", 1) > 1:
        more += f", {done.channels} channels mixed to one"
    name = "standard output" if out == "-" else Path(out).name
    show(done, json, lambda: f"{name}: {seconds:.1f} s{more}", quiet=out == "-")
