"""Commands around a server: serve, status, token."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ossicle.streaming.cli.options import Ca, Json, Remote, Tls, Token
from ossicle.streaming.cli.output import show


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (serve, status, token):
        app.command()(command)


def serve(
    config: Annotated[str, typer.Option(help="TOML file of settings.")] = "",
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Bundle to load; repeatable.")
    ] = None,
    state_dir: Annotated[
        str | None, typer.Option(help="Keep snapshots here: streams survive a killed server.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(help="PEM chain.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM key.")] = None,
    tls_client_ca: Annotated[str | None, typer.Option(help="Ask clients for certificates.")] = None,
    tokens: Annotated[str | None, typer.Option(help="File of hashed tokens.")] = None,
    insecure: Annotated[bool | None, typer.Option(help="Bind beyond loopback without TLS.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Prometheus on loopback.")] = None,
    max_streams: Annotated[int | None, typer.Option(help="Open at once.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning, error.")] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: --set idle_s=20")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as TOML and leave.")
    ] = False,
    json: Json = False,
) -> None:
    """Serve captions, codec, separation and enhancement over gRPC.

    Without TLS it is reached from this machine only. SIGTERM lets open streams end first.
    """
    from ossicle.streaming.server.config import load, to_toml

    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "models": tuple(model) if model else None,
        "state_dir": state_dir,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "tokens": tokens,
        "insecure": insecure,
        "metrics_port": metrics_port,
        "max_streams": max_streams,
        "log_level": log_level,
        **_pairs(set or []),
    }
    settings = load(config or None, flags)
    if print_config:
        if json:
            show(settings, json, lambda: "")
        else:
            print(to_toml(settings), end="")
        return
    from ossicle.streaming.server.logs import configure
    from ossicle.streaming.server.run import Server, run

    configure(settings.log_level, settings.log_text)

    def ready(server: Server) -> None:
        names = [model.name for model in server.service.engine.models()]
        where = f"{settings.host}:{server.port}"
        show(
            {"host": settings.host, "port": server.port, "models": names},
            json,
            lambda: (
                f"serving {', '.join(names)} on [bold]{where}[/]\n"
                f"try: ossicle caption FILE --server {where}"
            ),
        )
        sys.stdout.flush()

    run(settings, ready)


def _pairs(given: list[str]) -> dict[str, Any]:
    import tomllib

    from ossicle.runtime.errors import WireError

    found: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals:
            raise WireError(f"--set {pair}: KEY=VALUE expected; --print-config lists the keys")
        try:
            found[key.strip()] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = value
    return found


def status(
    server: Annotated[str, typer.Argument(help="HOST:PORT")] = "127.0.0.1:8061",
    token: Token = "",
    tls_ca: Ca = "",
    tls: Tls = False,
    json: Json = False,
) -> None:
    """Ask a server how it is."""
    with Remote(server, token, tls_ca, tls).connect() as client:
        found = client.status()
    show(
        found,
        json,
        lambda: (
            f"{found.state}, up {found.uptime_s:.0f} s, {found.streams} of {found.max_streams} "
            f"streams, {100 * found.capacity_used:.0f} % of the capacity promised, "
            f"{found.misses_total} misses, {found.gaps_total} gaps"
        ),
    )


def token(
    name: Annotated[str, typer.Argument(help="Whom the token is for.")],
    file: Annotated[str, typer.Option(help="Token file to add it to.")] = "tokens.toml",
    method: Annotated[list[str] | None, typer.Option(help="Allowed call; else all.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Allowed model; else all.")] = None,
    max_streams: Annotated[int, typer.Option(help="At once; 0: the server's limit.")] = 0,
    json: Json = False,
) -> None:
    """Make a bearer token; its hash goes into the file, the token itself is shown once."""
    import os

    from ossicle.runtime.errors import WireError
    from ossicle.streaming.server.security import Grant, TokenFile, new_token, token_entry

    path = Path(file)
    held = TokenFile.read(path).names() if path.exists() else ()
    if name in held:
        raise WireError(f"{file} has a token {name!r} already; remove it or choose another name")
    secret, digest = new_token()
    grant = Grant(name, digest, tuple(method or ("*",)), tuple(model or ("*",)), max_streams)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(token_entry(grant))
    show(
        {"name": name, "token": secret, "file": str(path)},
        json,
        lambda: f"{secret}\nkeep it: {path} holds only its hash. Use: OSSICLE_TOKEN={secret}",
    )
