"""Commands that caption: a file or a pipe, and the microphone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ossicle.streaming.cli.options import Ca, Json, Model, Quiet, Remote, Server, Tls, Token
from ossicle.streaming.cli.output import show

MinScore = Annotated[float, typer.Option(help="Believe no sound below this score.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "--label", help="Only these sounds: dog,rain; repeatable."),
]
AlertsOnly = Annotated[bool, typer.Option("--alerts-only", help="Only alarms and the like.")]
Lang = Annotated[str, typer.Option(help="en, de, fr, zh, or the path of a .toml file.")]
Style = Annotated[
    str,
    typer.Option(help="brackets, sentence (about the whole scene), clauses (each sound), off."),
]
Decoder = Annotated[
    str,
    typer.Option(help="Who words --style sentence: a bundle, or none for the grammar."),
]
Web = Annotated[
    int | None,
    typer.Option(help="A port: show captions live in browsers, at http://127.0.0.1:PORT/."),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (caption, mic):
        app.command()(command)


def caption(
    source: Annotated[
        str, typer.Argument(help="Audio file, or - for standard input.", metavar="IN")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="File; else standard output.")] = "-",
    format: Annotated[
        str, typer.Option("--format", "-f", help="jsonl, vtt, srt, ttml, scc or hls.")
    ] = "",
    rate: Annotated[int, typer.Option("--rate", help="Hz, of raw 16-bit PCM from a pipe.")] = 0,
    channels: Annotated[int, typer.Option("--channels", help="Of raw PCM from a pipe.")] = 1,
    min_score: MinScore = 0.0,
    labels: Labels = None,
    alerts_only: AlertsOnly = False,
    lang: Lang = "en",
    style: Style = "brackets",
    decoder: Decoder = "captioner-16k",
    view: Annotated[
        bool, typer.Option("--view", help="Show captions in the terminal as they come.")
    ] = False,
    web: Web = None,
    model: Model = "",
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Caption the sounds in a file or a live pipe.

    ffmpeg -i URL -f s16le -ac 1 -ar 16000 - | ossicle caption - --rate 16000
    """
    from ossicle.streaming.captions.commands import BUNDLE, caption_file
    from ossicle.streaming.captions.liveview import watching
    from ossicle.streaming.captions.task import CaptionOptions
    from ossicle.streaming.captions.webview import browsing, together

    options = CaptionOptions(
        min_score=min_score,
        labels=_names(labels),
        alerts_only=alerts_only,
        lang=lang,
        style=style,
        live=False,
        decoder=decoder,
    )
    with watching(view) as shown, browsing(web) as browsed:
        see = together(shown, browsed)
        if server:
            from ossicle.streaming.cli.remote import caption_remote

            done: Any = caption_remote(
                Remote(server, token, tls_ca, tls),
                source,
                out,
                format,
                options,
                model,
                rate,
                channels,
                see,
            )
        else:
            done = caption_file(
                source,
                out,
                format or None,
                bundle=model or BUNDLE,
                options=options,
                rate_hz=rate or None,
                channels=channels,
                see=see,
            )
    if json or not quiet:
        report = {"seconds": done.seconds, "cues": done.cues, "alerts": done.alerts}
        show(
            report,
            json,
            lambda: f"{done.cues} captions in {done.seconds:.1f} s of audio",
            quiet=True,
        )


def mic(
    device: Annotated[str, typer.Option(help="Index or part of a name.")] = "",
    rate: Annotated[int, typer.Option("--rate", help="Hz; 0: the device's own.")] = 0,
    seconds: Annotated[float, typer.Option(help="Stop after; 0: never.")] = 0.0,
    min_score: MinScore = 0.0,
    labels: Labels = None,
    alerts_only: AlertsOnly = False,
    lang: Lang = "en",
    style: Style = "brackets",
    decoder: Decoder = "captioner-16k",
    web: Web = None,
    model: Model = "",
    server: Server = "",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    json: Json = False,
) -> None:
    """Caption what the microphone hears, live, in the terminal; --json prints JSON lines."""
    from ossicle.streaming.cli.microphone import caption_microphone

    asked = {
        "min_score": min_score,
        "labels": _names(labels),
        "alerts_only": alerts_only,
        "language": lang,
        "style": style,
        "decoder": decoder,
    }
    chosen: int | str | None = int(device) if device.isdigit() else device or None
    remote = Remote(server or "local", token, tls_ca, tls)
    caption_microphone(remote, chosen, rate or None, seconds, model, json, asked, web)


def _names(labels: list[str] | None) -> tuple[str, ...]:
    """Return the labels of every ``--labels``; commas part several."""
    return tuple(
        name.strip() for given in labels or () for name in given.split(",") if name.strip()
    )
