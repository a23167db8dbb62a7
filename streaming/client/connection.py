"""``connect``: where the server is and how to be let in."""

from __future__ import annotations

import os
from pathlib import Path

from ossicle.runtime.errors import WireError
from ossicle.streaming.client.aio import AsyncClient
from ossicle.streaming.client.sync import Client
from ossicle.streaming.client.transport import (
    Address,
    GrpcTransport,
    LocalTransport,
    Transport,
)


class Connection:
    """``with`` gives a :class:`Client`, ``async with`` an :class:`AsyncClient`."""

    def __init__(self, address: Address | None, name: str, patience_s: float) -> None:
        self.address, self.name, self.patience_s = address, name, patience_s
        self._client: Client | None = None
        self._async: AsyncClient | None = None

    def open(self) -> AsyncClient:
        """Return the asyncio client; call it on the loop it is used on."""
        local = self.address is None
        transport: Transport = LocalTransport() if local else GrpcTransport(self.address)  # type: ignore[arg-type]
        return AsyncClient(transport, self.name, self.patience_s)

    def __enter__(self) -> Client:
        self._client = Client(self.open)
        return self._client

    def __exit__(self, *exc: object) -> None:
        if self._client is not None:
            self._client.close()

    async def __aenter__(self) -> AsyncClient:
        self._async = self.open()
        return self._async

    async def __aexit__(self, *exc: object) -> None:
        if self._async is not None:
            await self._async.close()


def connect(
    target: str | None = None,
    *,
    token: str = "",
    tls: bool = False,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    name: str = "",
    patience_s: float = 30.0,
) -> Connection:
    """Return a connection to the server at ``target``, to be used with ``with`` or ``async with``.

    Args:
        target: ``host:port`` or ``unix:/path``; ``local`` or None runs the models in this process.
        token: bearer token; else the environment variable ``OSSICLE_TOKEN``.
        tls: talk TLS; implied by ``ca`` and ``certificate``.
        ca: PEM file with the authority to trust, instead of the system's.
        certificate: PEM file of this client, for mTLS, with its ``key``.
        key: PEM file.
        name: what the server's logs call this client.
        patience_s: how long a stream tries to come back to a lost server.

    Raises:
        WireError: files that cannot be read, a certificate without its key.
    """
    if target is None or target == "local":
        return Connection(None, name, patience_s)
    if bool(certificate) != bool(key):
        raise WireError("a client certificate and its key go together; one of them is missing")
    address = Address(
        target,
        token or os.environ.get("OSSICLE_TOKEN", ""),
        tls or ca is not None or certificate is not None,
        _pem(ca),
        _pem(certificate),
        _pem(key),
    )
    if address.token and not address.tls and not _loopback(target):
        raise WireError(
            f"a token would go to {target} in the clear; say tls=True, or reach it by loopback"
        )
    return Connection(address, name, patience_s)


def _pem(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise WireError(f"{path} cannot be read: {error}") from None


def _loopback(target: str) -> bool:
    from ossicle.streaming.server.security import is_loopback

    return target.startswith("unix:") or is_loopback(target.rpartition(":")[0])
