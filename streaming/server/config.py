"""What a server is told: defaults, then one TOML file, then environment, then flags.

Every field below is a key of the TOML file, an environment variable ``OSSICLE_<KEY>`` and can be
given to ``ossicle serve`` as ``--set KEY=VALUE``; the common ones are flags of their own.
``ossicle serve --print-config`` writes the file that results.
"""

from __future__ import annotations

import ast
import inspect
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ossicle.runtime.errors import WireError

DEFAULT_PORT = 8061
# every built-in that a task can ask for, and the smaller one that a ladder can name
BUILT_IN = ("codec-16k", "sounds-16k", "separate-16k", "separate-16k-talk", "sounds-16k-tiny")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a server is told; times in seconds or ms as named, sizes in bytes."""

    host: str = "127.0.0.1"  # address to bind; anything but loopback needs TLS or insecure
    port: int = DEFAULT_PORT  # 0: any free one
    models: tuple[str, ...] = ()  # bundle names or folders; empty: every built-in
    backend: str = "auto"  # native where it can, else ONNX Runtime; or one of the two by name
    threads: int = 1  # of one model run
    state_dir: str = ""  # for snapshots; empty: streams cannot be resumed
    reuse_port: bool = False  # several processes on one port (SO_REUSEPORT)

    # security
    tls_cert: str = ""  # PEM chain of the server
    tls_key: str = ""  # PEM key of the server
    tls_client_ca: str = ""  # PEM: clients must show a certificate signed by this (mTLS)
    tokens: str = ""  # TOML file of hashed bearer tokens; empty: none are asked for
    insecure: bool = False  # bind beyond loopback without TLS: anyone on the network can listen in

    # limits
    max_streams: int = 256  # open at once
    max_streams_per_client: int = 64  # per token, or per address without tokens
    max_load: float = 0.75  # of the engine's thread that may be promised to streams
    message_us: float = 250.0  # what carrying one hop through gRPC costs; admission counts it
    gather_ms: float = 1.0  # waited for more streams to be ready, where budgets are 10 times that
    pace_ms: float = 4.0  # between two looks at the sockets, where budgets are 5 times that
    max_message_bytes: int = 4 << 20  # of audio or packets in one message
    max_file_bytes: int = 64 << 20  # audio of one unary call
    bytes_per_second: int = 2 << 20  # of one live stream, averaged over 10 s; 0: no limit
    first_message_s: float = 10.0  # until the config must have come
    idle_s: float = 60.0  # without any message from the client
    max_duration_s: float = 0.0  # of one connection; 0: no limit
    going_away_s: float = 10.0  # announced so long before max_duration_s
    drain_s: float = 10.0  # given to open streams on SIGTERM
    stall_s: float = 30.0  # of a reader that takes nothing, before its stream is closed
    ring_ms: int = 2000  # audio waiting for the engine, per task; more is dropped (live) or waits
    output_ms: int = 1000  # answers waiting for the client, per stream; more is dropped or waits

    # snapshots
    checkpoint_s: float = 2.0  # of audio between two snapshots of a stream
    checkpoint_share: float = 0.05  # of the time that snapshots may take
    checkpoint_bytes: int = 16 << 20  # one snapshot at most
    state_dir_bytes: int = 1 << 30  # all snapshots together
    resume_keep_s: float = 300.0  # a lost stream can be resumed for so long

    # observability
    metrics_port: int = 0  # Prometheus over HTTP on loopback; 0: off
    log_level: str = "info"  # "debug", "info", "warning", "error"
    log_text: bool = False  # also log caption text and queries
    reflection: bool = True  # let clients ask for the protos
    drift_notice_ppm: float = 50.0  # clock drift of a client worth a notice

    def __post_init__(self) -> None:
        positive = ("max_streams", "max_streams_per_client", "max_message_bytes", "ring_ms")
        for name in (*positive, "output_ms", "idle_s", "first_message_s", "threads"):
            if getattr(self, name) <= 0:
                raise WireError(f"setting {name} is {getattr(self, name)}; more than 0 expected")
        if not 0 <= self.port <= 65535:
            raise WireError(f"setting port is {self.port}; 0 to 65535 expected")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise WireError("settings tls_cert and tls_key go together; one of them is missing")
        if self.tls_client_ca and not self.tls_cert:
            raise WireError("setting tls_client_ca needs tls_cert and tls_key as well")
        for name in ("checkpoint_share", "max_load"):
            if not 0 < getattr(self, name) <= 1:
                raise WireError(f"setting {name}: more than 0 and at most 1 expected")
        if not 0 <= self.message_us <= 1e6:
            raise WireError("setting message_us: 0 to one second expected")
        for name in ("gather_ms", "pace_ms"):
            if not 0 <= getattr(self, name) <= 1000:
                raise WireError(f"setting {name}: 0 to one second expected")


FIELDS = {f.name: f for f in msgspec.structs.fields(Settings)}


def load(
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings that hold: flags over environment over file over defaults.

    Raises:
        WireError: an unknown key, a value of the wrong type, a file that is no TOML.
    """
    given: dict[str, Any] = {}
    if file:
        given |= _from_file(Path(file))
    given |= _from_environment(os.environ if environment is None else environment)
    given |= {k: v for k, v in (flags or {}).items() if v is not None}
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise WireError(f"settings: {error}; `ossicle serve --print-config` lists them") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise WireError(f"settings file {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise WireError(f"settings file {path} is no TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in FIELDS.items():
        text = environment.get(f"OSSICLE_{name.upper()}")
        if text is None:
            continue
        value: Any = tuple(t for t in text.split(",") if t) if name == "models" else text
        try:
            found[name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise WireError(f"OSSICLE_{name.upper()}={text!r}: {error}") from None
    return found


def to_toml(settings: Settings) -> str:
    """Return the settings as the TOML file that gives them, each with its comment."""
    notes = comments()
    lines = []
    for name, value in msgspec.structs.asdict(settings).items():
        text = msgspec.json.encode(value).decode()
        lines.append(f"{name} = {text}".ljust(36) + f"  # {notes.get(name, '')}".rstrip())
    return "\n".join(lines) + "\n"


def comments() -> dict[str, str]:
    """Return what the source says beside each setting: one place for code, file and help."""
    source = inspect.getsource(Settings)
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        item.target.id: lines[item.lineno - 1].partition("  # ")[2]
        for item in body.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
