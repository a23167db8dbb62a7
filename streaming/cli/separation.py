"""Commands on files and pipes: separate and enhance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ossicle.streaming.cli.files import In
from ossicle.streaming.cli.options import Ca, Json, Model, Quiet, Remote, Server, Tls, Token
from ossicle.streaming.cli.output import progress_bar, show

if TYPE_CHECKING:
    from ossicle.streaming.separation.commands import SeparationSummary


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (separate, enhance):
        app.command()(command)


def separate(
    source: In,
    out: Annotated[list[str], typer.Option("--out", "-o", help="Audio file; one for each query.")],
    query: Annotated[list[str], typer.Option(help='What to keep, such as "dog barking".')],
    depth: Annotated[float, typer.Option(help="1: only that; 0: the input.")] = 1.0,
    keep_alarms: Annotated[bool, typer.Option(help="Give alarms back in any case.")] = False,
    encoder: Annotated[
        str, typer.Option(help="Folder or hub name of a sentence encoder, for wider wording.")
    ] = "",
    plot: Annotated[str, typer.Option(help="PNG of the spectrograms.")] = "",
    model: Model = "",
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Keep only what is asked for: ossicle separate in.wav --query "dog barking" -o out.wav."""
    with progress_bar("separate", not quiet) as progress:
        if server:
            from ossicle.runtime.errors import WireError
            from ossicle.streaming.cli.remote import separate_remote

            if encoder:
                raise WireError("--encoder works without --server only")
            _plottable(plot, source, out)
            options = {"depth": depth, "keep_alarms": keep_alarms}
            done = separate_remote(
                Remote(server, token, tls_ca, tls), source, query, out, options, model, progress
            )
            _plot(plot, source, out, query)
        else:
            from ossicle.streaming.separation.commands import SEPARATOR, separate_file

            done = separate_file(
                source,
                query if len(query) > 1 else query[0],
                out if len(query) > 1 else out[0],
                model=model or SEPARATOR,
                depth=depth,
                keep_alarms=keep_alarms,
                encoder=encoder or None,
                plot=plot or None,
                progress=progress,
            )
    _summary(done, out, quiet, json)


def enhance(
    source: In,
    out: Annotated[str, typer.Option("--out", "-o", help="Audio file, or - for WAV.")],
    depth: Annotated[float, typer.Option(help="1: all noise away; 0: the input.")] = 1.0,
    drop_alarms: Annotated[bool, typer.Option(help="Take alarms away too.")] = False,
    plot: Annotated[str, typer.Option(help="PNG of the spectrograms.")] = "",
    model: Model = "",
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Keep the speech (and alarms), take the noise away."""
    with progress_bar("enhance", not quiet) as progress:
        if server:
            from ossicle.streaming.cli.remote import enhance_remote

            _plottable(plot, source, [out])
            options = {"depth": depth, "drop_alarms": drop_alarms}
            done = enhance_remote(
                Remote(server, token, tls_ca, tls), source, out, options, model, progress
            )
            _plot(plot, source, [out], ["speech"])
        else:
            from ossicle.streaming.separation.commands import ENHANCER, enhance_file

            done = enhance_file(
                source,
                out,
                model or ENHANCER,
                plot or None,
                depth=depth,
                keep_alarms=not drop_alarms,
                progress=progress,
            )
    _summary(done, [out], quiet, json)


def _plottable(plot: str, source: str, outs: list[str]) -> None:
    """Refuse a plot of pipes before anything is sent; a server's answer is plotted from files."""
    from ossicle.runtime.errors import AudioError

    if plot and "-" in (source, *outs):
        raise AudioError("--plot with --server needs files, not pipes")


def _plot(plot: str, source: str, outs: list[str], names: list[str]) -> None:
    if plot:
        from ossicle.streaming.separation.commands import plot_files

        plot_files(plot, source, outs, names)


def _summary(done: SeparationSummary, outs: list[str], quiet: bool, json: bool) -> None:
    if quiet and not json:
        return

    def told() -> str:
        rows = zip(outs, done.tracks, done.level_db, strict=True)
        return "\n".join(
            f"{'standard output' if out == '-' else Path(out).name}: {track}, "
            f"{done.seconds:.1f} s, {round(db, 1) + 0.0:+.1f} dB against the input"
            for out, track, db in rows
        )

    show(done, json, told, quiet="-" in outs)
