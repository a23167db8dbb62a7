"""Options that several commands share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Server = Annotated[
    str, typer.Option("--server", help="HOST:PORT of a server; without it, work in this process.")
]
Token = Annotated[
    str, typer.Option("--token", envvar="OSSICLE_TOKEN", help="Bearer token for the server.")
]
Ca = Annotated[
    str,
    typer.Option(
        "--tls-ca",
        help="PEM of the authority to trust; implies TLS. OSSICLE_CLIENT_CERT and "
        "OSSICLE_CLIENT_KEY are this client's own, for servers that ask for one.",
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="Talk TLS with the system's authorities.")]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Bundle by name or path; else the built-in one.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")]


@dataclass(frozen=True, slots=True)
class Remote:
    """How to reach a server."""

    server: str
    token: str = ""
    ca: str = ""
    tls: bool = False

    def connect(self) -> Any:
        """Return a connection."""
        from ossicle.streaming.client import connect

        return connect(
            self.server,
            token=self.token,
            ca=self.ca or None,
            tls=self.tls,
            certificate=os.environ.get("OSSICLE_CLIENT_CERT"),
            key=os.environ.get("OSSICLE_CLIENT_KEY"),
            name="ossicle-cli",
        )
