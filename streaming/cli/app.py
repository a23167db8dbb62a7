"""All commands under one name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ossicle.streaming.cli import caption, files, models, separation, serving, tools
from ossicle.streaming.cli.output import EXIT_CODES, errors_as_exits

HELP = """Live captions, low-bitrate audio, separation and enhancement, streamed.

`ossicle demo` shows all of it. Commands on files work in this process, or with --server HOST:PORT
on a running `ossicle serve`, with the same result; `-` is standard input or output.
"""
EPILOG = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + "."

app = typer.Typer(
    name="ossicle",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from ossicle.streaming.version import VERSION

        print(VERSION)
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and leave.")
    ] = False,
) -> None:
    """Read the options that come before any command."""


for group in (caption, files, separation, serving, models, tools):
    group.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    with errors_as_exits("--json" in given):
        app(args=given)
