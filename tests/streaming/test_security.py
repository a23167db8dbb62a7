"""Who gets in: TLS, client certificates, tokens and their scopes."""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from streamtoys import CAPTION, ENHANCE, RATE, load_all, tones

from ossicle.runtime.errors import WireError
from ossicle.runtime.model import Model
from ossicle.streaming.client import ServerError, connect
from ossicle.streaming.server.config import Settings, load, to_toml
from ossicle.streaming.server.logs import JsonLines
from ossicle.streaming.server.run import Server
from ossicle.streaming.server.security import (
    Grant,
    TokenFile,
    check_exposure,
    is_loopback,
    new_token,
    token_entry,
)
from ossicle.streaming.session.drift import ClockWatch, Drift
from ossicle.streaming.session.inline import InlineEngine
from ossicle.streaming.session.limits import Rate


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    return load_all(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An authority, a server's and a client's certificate, and a stranger's authority."""
    pytest.importorskip("cryptography")
    home = tmp_path_factory.mktemp("pki")
    made: dict[str, str] = {}
    authority = _certificate(home, "ca", None, made)
    _certificate(home, "server", authority, made)
    _certificate(home, "client", authority, made)
    _certificate(home, "stranger", None, made)
    return made


def _certificate(home: Path, name: str, issuer: Any, made: dict[str, str]) -> Any:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer, signed_by = issuer or (key, subject)
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    made[name], made[name + "_key"] = str(home / f"{name}.pem"), str(home / f"{name}.key")
    Path(made[name]).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    Path(made[name + "_key"]).write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return key, subject


async def served(models: dict[str, Model], **settings: Any) -> AsyncIterator[Server]:
    async with Server(Settings(port=0, **settings), InlineEngine(loaded=models)) as server:
        yield server


async def test_tls_lets_in_who_trusts_the_authority(
    models: dict[str, Model], pki: dict[str, str]
) -> None:
    settings = {"tls_cert": pki["server"], "tls_key": pki["server_key"]}
    async for server in served(models, **settings):
        address = f"localhost:{server.port}"
        async with connect(address, ca=pki["ca"]) as client:
            assert (await client.status()).state == "READY"
        async with connect(address, ca=pki["stranger"]) as client:
            with pytest.raises(ServerError, match="give its authority's PEM"):
                await client.status()
        async with connect(address) as client:  # in the clear
            with pytest.raises(ServerError, match="does it ask for TLS"):
                await client.status()


async def test_mtls_asks_for_a_certificate(models: dict[str, Model], pki: dict[str, str]) -> None:
    settings = {
        "tls_cert": pki["server"],
        "tls_key": pki["server_key"],
        "tls_client_ca": pki["ca"],
    }
    async for server in served(models, **settings):
        address = f"localhost:{server.port}"
        known = {"certificate": pki["client"], "key": pki["client_key"]}
        async with connect(address, ca=pki["ca"], **known) as client:
            assert (await client.status()).state == "READY"
        stranger = {"certificate": pki["stranger"], "key": pki["stranger_key"]}
        for wrong in ({}, stranger):
            async with connect(address, ca=pki["ca"], **wrong) as client:
                with pytest.raises(ServerError):
                    await client.status()


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[str, dict[str, str]]:
    path, secrets = tmp_path / "tokens.toml", {}
    path.touch(mode=0o600)
    for grant in (
        Grant("all"),
        Grant("captions", methods=("Stream",), models=("tones",), max_streams=1),
        Grant("watch", methods=("status",)),
    ):
        secret, digest = new_token()
        secrets[grant.name] = secret
        import msgspec

        entry = token_entry(msgspec.structs.replace(grant, sha256=digest))
        path.write_text(path.read_text() + entry)
    return str(path), secrets


async def test_a_token_opens_what_its_scopes_say(
    models: dict[str, Model], tokens: tuple[str, dict[str, str]]
) -> None:
    path, secrets = tokens
    async for server in served(models, tokens=path):
        address = f"127.0.0.1:{server.port}"

        async def refusal(token: str, work: str, address: str = address) -> str:
            async with connect(address, token=token) as client:
                try:
                    if work == "status":
                        await client.status()
                    elif work == "models":
                        await client.models()
                    else:
                        spec = CAPTION if work == "caption" else ENHANCE
                        async for _ in client.run(tones(0.1), spec, rate_hz=RATE):
                            pass
                except ServerError as error:
                    return f"{error.failure.code} {error.failure.reason}"
                return ""

        for work in ("status", "models", "caption", "enhance"):
            assert await refusal(secrets["all"], work) == ""
            assert await refusal("", work) == "UNAUTHENTICATED TOKEN"
            assert await refusal("osc_wrong", work) == "UNAUTHENTICATED TOKEN"
        assert await refusal(secrets["captions"], "caption") == ""
        for work in ("status", "models", "enhance"):
            assert await refusal(secrets["captions"], work) == "PERMISSION_DENIED SCOPE"
        assert await refusal(secrets["watch"], "status") == ""
        assert await refusal(secrets["watch"], "caption") == "PERMISSION_DENIED SCOPE"
        async with (
            connect(address, token=secrets["captions"]) as client,
            client.stream(CAPTION, rate_hz=RATE),
        ):
            with pytest.raises(ServerError, match="as many as it may have"):
                await client.stream(CAPTION, rate_hz=RATE).opened()


def test_the_token_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    with pytest.raises(WireError, match="cannot be read"):
        TokenFile.read(path)
    path.write_text("")
    path.chmod(0o600)
    with pytest.raises(WireError, match="holds no token"):
        TokenFile.read(path)
    path.write_text('[[token]]\nname = "a"\nsha256 = "xyz"\n')
    with pytest.raises(WireError, match="64 hex"):
        TokenFile.read(path)
    path.write_text('[[token]]\nname = "a"\nnonsense = 1\n')
    with pytest.raises(WireError, match="nonsense"):
        TokenFile.read(path)
    path.write_text(token_entry(Grant("a", "0" * 64)))
    path.chmod(0o666)
    with pytest.raises(WireError, match="written by others"):
        TokenFile.read(path)


def test_beyond_loopback_needs_tls_or_the_word() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(WireError, match="--insecure"):
            check_exposure(Settings(host=host))
        check_exposure(Settings(host=host, insecure=True))
    for host in ("127.0.0.1", "::1", "localhost", "unix:/tmp/x"):
        check_exposure(Settings(host=host))


def test_settings_come_from_file_environment_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text('port = 1\nidle_s = 5.0\nmodels = ["a"]\n')
    found = load(path, {"port": 3, "host": None}, {"OSSICLE_PORT": "2", "OSSICLE_IDLE_S": "7"})
    assert (found.port, found.idle_s, found.models, found.host) == (3, 7.0, ("a",), "127.0.0.1")
    again = tmp_path / "again.toml"
    again.write_text(to_toml(found))
    assert load(again, {}, {}) == found
    assert all("# " in line for line in to_toml(found).splitlines())
    wrong = {
        "prt = 1": "prt",
        'port = "x"': "int",
        "port = ": "TOML",
        "port = 70000": "0 to 65535",
        "ring_ms = 0": "more than 0",
    }
    for text, match in wrong.items():
        path.write_text(text)
        with pytest.raises(WireError, match=match):
            load(path, {}, {})
    with pytest.raises(WireError, match="OSSICLE_PORT"):
        load(None, {}, {"OSSICLE_PORT": "many"})


def test_logs_hold_no_audio_no_text_and_no_secrets() -> None:
    record = logging.LogRecord("ossicle.service", logging.INFO, "", 0, "stream opened", (), None)
    record.session, record.text = "s", "[dog]"
    record.token, record.samples = "osc_x", b"\0"
    line = json.loads(JsonLines().format(record))
    assert set(line) == {"at", "level", "logger", "event", "session"}


def test_a_rate_is_an_average_and_lets_bursts_through() -> None:
    rate = Rate(100.0)
    assert rate.take(900, 0.0) == 0
    assert rate.take(200, 0.0) == pytest.approx(1.0)
    assert rate.take(0, 60.0) == 0
    assert Rate(0).take(10**9, 0.0) == 0


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_a_clock_that_drifts_is_measured_through_jitter(ppm: float) -> None:
    import random

    rng, drift = random.Random(1), Drift()
    for index in range(4_000):
        theirs = index * 0.02
        ours = 5.0 + theirs / (1 + ppm * 1e-6) + rng.expovariate(1 / 0.004)
        drift.add(ours, 1e9 + theirs)
    assert drift.ppm == pytest.approx(ppm, abs=10)


@pytest.mark.parametrize(("ppm", "told"), [(200.0, True), (-200.0, True), (20.0, False)])
def test_a_clock_that_is_off_by_enough_is_told_now_and_then(ppm: float, told: bool) -> None:
    watch = ClockWatch(50.0)
    found = []
    for index in range(4_500):  # 90 s
        theirs = index * 0.02
        ours = 5.0 + theirs / (1 + ppm * 1e-6)
        notice = watch.saw(int(ours * 1e9), int((1e9 + theirs) * 1e9))
        if notice is not None:
            found.append(float(notice.fields["ppm"]))
    assert len(found) == (2 if told else 0)  # after 30 s, and after 60
    assert found == pytest.approx([ppm] * len(found), abs=10)
