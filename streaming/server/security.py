"""Who may do what: TLS, client certificates, bearer tokens with scopes.

Tokens are 256 random bits, so a plain SHA-256 of one is as good as a slow hash; the file holds
nothing else. It looks like this::

    [[token]]
    name = "studio"                     # for logs, metrics and limits
    sha256 = "9f86d081..."              # of the token
    methods = ["Stream", "Recognize"]   # or ["*"]; GetStatus needs "GetStatus" or "status"
    models = ["sounds-16k"]             # or ["*"]
    max_streams = 4                     # 0: the server's own limit
    bytes_per_second = 0                # 0: the server's own limit

``ossicle token studio --file tokens.toml`` makes one and prints the token, once.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import tomllib
from pathlib import Path

import msgspec

from ossicle.runtime.errors import WireError
from ossicle.streaming.failures import Denied
from ossicle.streaming.server.config import Settings


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one token allows."""

    name: str
    sha256: str = ""
    methods: tuple[str, ...] = ("*",)
    models: tuple[str, ...] = ("*",)
    max_streams: int = 0
    bytes_per_second: int = 0

    def allows_method(self, method: str) -> bool:
        """Whether the call ``method`` may be made."""
        return (
            "*" in self.methods
            or method in self.methods
            or (method == "GetStatus" and "status" in self.methods)
        )

    def allows_model(self, model: str) -> bool:
        """Whether streams may use ``model``."""
        return "*" in self.models or model in self.models


ANYONE = Grant("anyone")


class TokenFile:
    """The tokens a server knows; an empty one lets everyone in."""

    def __init__(self, grants: tuple[Grant, ...] = ()) -> None:
        for grant in grants:
            if len(grant.sha256) != 64 or set(grant.sha256) - set("0123456789abcdef"):
                raise WireError(f"token {grant.name!r}: sha256 must be 64 hex digits")
        if len({g.name for g in grants}) != len(grants):
            raise WireError("two tokens of one name; limits are counted by name")
        self._grants = grants

    @classmethod
    def read(cls, path: str | Path) -> TokenFile:
        """Return the tokens in a file.

        Raises:
            WireError: no such file, one that others may write, or one that breaks the schema.
        """
        path = Path(path)
        try:
            if path.stat().st_mode & 0o022:
                raise WireError(f"token file {path} may be written by others; chmod 600 it")
            table = tomllib.loads(path.read_text())
            grants = msgspec.convert(table.get("token", []), tuple[Grant, ...])
        except OSError as error:
            raise WireError(f"token file {path} cannot be read: {error}") from None
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise WireError(f"token file {path}: {error}") from None
        if not grants:
            raise WireError(f"token file {path} holds no token; make one with `ossicle token`")
        return cls(grants)

    def names(self) -> tuple[str, ...]:
        """Return whom the tokens are for."""
        return tuple(g.name for g in self._grants)

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return not self._grants

    def grant(self, authorization: str | None) -> Grant:
        """Return what the ``authorization`` header of a call allows.

        Raises:
            Denied: no token, or one that is not in the file.
        """
        if self.open:
            return ANYONE
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Denied(
                "this server asks for a token; send metadata `authorization: Bearer <token>`",
                known=False,
            )
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found: Grant | None = None
        for grant in self._grants:  # all of them, so that time tells nothing
            if hmac.compare_digest(grant.sha256, digest):
                found = grant
        if found is None:
            raise Denied("the token is not known here; was it revoked?", known=False)
        return found


def new_token() -> tuple[str, str]:
    """Return a fresh token and the SHA-256 that goes into the file."""
    token = "osc_" + secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).hexdigest()


def token_entry(grant: Grant) -> str:
    """Return the lines of a token file for ``grant``."""

    def quote(value: object) -> str:
        return msgspec.json.encode(value).decode()

    lines = [f"{k} = {quote(v)}" for k, v in msgspec.structs.asdict(grant).items()]
    return "\n[[token]]\n" + "\n".join(lines) + "\n"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(settings: Settings) -> None:
    """Refuse to carry audio in the clear beyond this machine unless told so in so many words.

    Raises:
        WireError: neither loopback, nor TLS, nor ``insecure``.
    """
    if not (is_loopback(settings.host) or settings.tls_cert or settings.insecure):
        raise WireError(
            f"binding {settings.host} without TLS would send audio in the clear over the network. "
            "Give --tls-cert and --tls-key, bind 127.0.0.1, or say --insecure"
        )


def read_pem(path: str, what: str) -> bytes:
    """Return a PEM file's bytes.

    Raises:
        WireError: it cannot be read, or holds no PEM.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WireError(f"{what} {path} cannot be read: {error}") from None
    if b"-----BEGIN" not in data:
        raise WireError(f"{what} {path} holds no PEM")
    return data
