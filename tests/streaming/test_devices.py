"""Sound devices: a private ALSA without hardware, and a player whose clock is not the sender's."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamtoys import ENCODE, RATE, load_all, tones

from ossicle.runtime.audio import AudioFormat, Chunk
from ossicle.runtime.errors import DeviceError
from ossicle.runtime.model import Model
from ossicle.runtime.task import InlineRun, PacketEvent
from ossicle.streaming import messages as m
from ossicle.streaming.client import connect
from ossicle.streaming.client.player import WRITE_MS, Player
from ossicle.streaming.tasks import build

ASOUND = "pcm.nothing { type null }\npcm.!default { type null }\n"


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_all(tmp_path_factory.mktemp("bundles"))["toy-codec"]


@pytest.fixture
def alsa(tmp_path: Path) -> dict[str, str]:
    """An environment in which the only sound card is one that swallows everything."""
    try:
        import sounddevice  # noqa: F401  (only whether it loads)
    except ImportError:
        pytest.skip("sounddevice is not installed")
    except OSError:
        pytest.skip("no PortAudio: apt-get install libportaudio2 libasound2-plugins")
    (tmp_path / "asound.conf").write_text(ASOUND)
    return {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")}


PULSE = """
pcm_type.pulse {{ lib "{plugin}" }}
pcm.!default {{ type pulse device "sink.monitor" }}
"""
PLUGIN = "/usr/lib/{machine}-linux-gnu/alsa-lib/libasound_module_pcm_pulse.so"


@pytest.fixture
def loopback(tmp_path: Path, alsa: dict[str, str]) -> Iterator[dict[str, str]]:
    """An environment whose only microphone hears what is played into a PulseAudio null sink."""
    plugin = PLUGIN.format(machine=platform.machine())
    if shutil.which("pulseaudio") is None or not Path(plugin).exists():
        pytest.skip("no PulseAudio: apt-get install pulseaudio libasound2-plugins")
    (tmp_path / "pulse.conf").write_text(PULSE.format(plugin=plugin))
    socket = tmp_path / "socket"
    environment = {
        **alsa, "ALSA_CONFIG_PATH": str(tmp_path / "pulse.conf"), "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path), "PULSE_SERVER": f"unix:{socket}",
    }  # fmt: skip
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disable-shm=yes",
               "-L", "module-null-sink sink_name=sink rate=16000",
               "-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"]  # fmt: skip
    daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    for _ in range(200):
        if socket.exists():
            break
        time.sleep(0.05)
    yield environment
    daemon.terminate()
    daemon.wait(20)


def test_a_microphone_is_captioned_live(
    loopback: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is played over and over into a sound card is heard by its microphone, and captioned."""
    tagger = load_all(tmp_path_factory.mktemp("bundles"))["tones"].bundle.root
    pcm = (np.tile(tones(5.0)[0], 12) * 32767).astype("<i2")
    (tmp_path / "tones.raw").write_bytes(pcm.tobytes())
    sound = ["pacat", "--raw", "--format=s16le", "--rate=16000", "--channels=1", "-d", "sink",
             str(tmp_path / "tones.raw")]  # fmt: skip
    heard = [sys.executable, "-m", "ossicle.streaming.cli", "mic", "--device", "default", "--rate",
             "16000", "--seconds", "8", "--json", "-m", str(tagger)]  # fmt: skip
    with subprocess.Popen(sound, env=loopback) as player:
        done = subprocess.run(
            heard, env=loopback, capture_output=True, text=True, timeout=90, check=False
        )
        player.kill()
    assert done.returncode == 0, done.stderr
    cues = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(cue["op"] == "OPEN" and cue["kind"] == "SOUND" for cue in cues)


def packets(codec: Model, seconds: float) -> list[bytes]:
    run = InlineRun(build(ENCODE, codec, True), codec)
    events = run.feed(Chunk(tones(seconds), 0, AudioFormat(RATE))) + run.finish()
    return [e.packet for e in events if isinstance(e, PacketEvent)]


class Tape:
    """An output whose clock moves by what is written."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @property
    def now_s(self) -> float:
        return float(sum(len(h) for h in self.heard)) / RATE

    def write(self, samples: Any) -> None:
        self.heard.append(np.array(samples))

    def __enter__(self) -> Tape:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def test_devices_are_listed_in_json(alsa: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ossicle.streaming.cli", "devices", "--json"]
    done = subprocess.run(command, env=alsa, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert "nothing" in {device["name"] for device in found}
    assert {"index", "host", "inputs", "outputs", "rate_hz"} <= set(found[0])


def test_a_player_plays_on_a_device(alsa: dict[str, str], codec: Model) -> None:
    program = f"""
import time
from ossicle.runtime.model import Model
from ossicle.streaming.client.player import Player
with Player(Model.load({str(codec.bundle.root)!r})) as player:
    for _ in range(100):
        time.sleep(0.05)
        player.report()
        if player._error: raise player._error
        if player._state.ready.shape[1] >= 0 and player._thread.is_alive(): break
print("played")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=alsa, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.stdout == "played\n", done.stderr


@pytest.mark.parametrize("ppm", [200.0, -200.0])
def test_a_clock_that_is_off_is_told_in_ppm_and_heard_without_holes(
    codec: Model, ppm: float
) -> None:
    sent, told, tape = packets(codec, 40.0), [], Tape()
    player = Player(codec, on_notice=told.append)
    hop_s = codec.manifest.hop / RATE
    for index, packet in enumerate(sent):
        due_s = index * hop_s / (1 + ppm * 1e-6)  # of our clock: theirs is faster by so much
        while tape.now_s + WRITE_MS / 1000 <= due_s:
            player.play(tape)
        player.push(packet, int(due_s * 1e9))
    assert told
    assert {n.kind for n in told} == {"CLOCK_DRIFT"}
    assert float(told[-1].fields["ppm"]) == pytest.approx(ppm, abs=25)
    report = player.report()
    assert report.stalled == report.dropped == 0


async def test_a_source_is_encoded_by_the_service_and_played_here(codec: Model) -> None:
    from ossicle.streaming.client.transport import LocalTransport
    from ossicle.streaming.server.config import Settings
    from ossicle.streaming.server.service import Service
    from ossicle.streaming.session.inline import InlineEngine

    tape = Tape()
    async with connect("local") as client:
        assert isinstance(client.transport, LocalTransport)
        client.transport._service = Service(InlineEngine(loaded={codec.name: codec}), Settings())
        player = Player(codec, opener=lambda rate, channels: tape)
        answers = [
            r async for r in client.listen(tones(1.0), player, rate_hz=RATE, model=codec.name)
        ]
    count = sum(len(r.body.packets) for r in answers if isinstance(r.body, m.PacketsOut))
    for _ in range(20):
        player.play(tape)
    assert np.abs(np.concatenate(tape.heard)).max() > 0.01
    assert player.report().waiting_frames < count


def test_a_device_that_fails_is_told_to_whoever_pushes(codec: Model) -> None:
    def broken(rate: int, channels: int) -> Any:
        raise OSError("unplugged")

    with Player(codec, opener=broken) as player:
        player._thread.join(5)
        with pytest.raises(DeviceError, match="unplugged"):
            player.push(packets(codec, 0.1)[0])
