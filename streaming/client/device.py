"""The sound card: what there is, and a microphone as a source; PortAudio is loaded lazily."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ossicle.runtime.audio import Samples
from ossicle.runtime.errors import DeviceError


@dataclass(frozen=True, slots=True)
class Device:
    """One sound device."""

    index: int
    name: str
    host: str  # "ALSA", "PulseAudio", ...
    inputs: int
    outputs: int
    rate_hz: int
    default_input: bool = False
    default_output: bool = False


def _portaudio() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise DeviceError(
            "no sound: the package sounddevice is missing; pip install 'ossicle[audio]'"
        ) from None
    except OSError as error:
        raise DeviceError(
            f"no sound: {error}. PortAudio is a system library; on Debian or Ubuntu: "
            "apt-get install libportaudio2"
        ) from None
    return sounddevice


def devices() -> list[Device]:
    """Return every sound device.

    Raises:
        DeviceError: PortAudio is missing or fails.
    """
    sound = _portaudio()
    try:
        hosts = [api["name"] for api in sound.query_hostapis()]
        found = list(sound.query_devices())
        first_in, first_out = sound.default.device
    except sound.PortAudioError as error:
        raise DeviceError(f"the sound devices cannot be listed: {error}") from None
    return [
        Device(
            index,
            d["name"],
            hosts[d["hostapi"]],
            d["max_input_channels"],
            d["max_output_channels"],
            int(d["default_samplerate"]),
            index == first_in,
            index == first_out,
        )
        for index, d in enumerate(found)
    ]


def open_output(rate_hz: int, channels: int) -> Any:
    """Return the default output, to be used with ``with`` and written to.

    Raises:
        DeviceError: no PortAudio, or no such device.
    """
    sound = _portaudio()
    try:
        return sound.OutputStream(samplerate=rate_hz, channels=channels, dtype="float32")
    except (sound.PortAudioError, ValueError) as error:
        raise DeviceError(
            f"no output at {rate_hz} Hz x {channels}: {error}; `ossicle devices` lists what "
            "there is"
        ) from None


class Microphone:
    """A live source: what a microphone hears. Samples that nobody takes in time are dropped.

    Args:
        device: index, part of a name, or None for the default.
        rate_hz: asked of the device; None: its own.
        channels: 1 or 2.
        hold_ms: how much may wait before the oldest is dropped (and counted in ``dropped``).
    """

    live = True

    def __init__(
        self,
        device: int | str | None = None,
        rate_hz: int | None = None,
        channels: int = 1,
        hold_ms: int = 1000,
    ) -> None:
        self._sound = _portaudio()
        self.device, self.channels = device, channels
        try:
            info = self._sound.query_devices(device, "input")
        except (self._sound.PortAudioError, ValueError) as error:
            raise DeviceError(
                f"no microphone{'' if device is None else f' {device}'}: {error}; "
                "`ossicle devices` lists what there is"
            ) from None
        self.rate_hz = int(rate_hz or info["default_samplerate"])
        self.dropped = 0
        self._held: deque[Samples] = deque()
        self._limit = hold_ms * self.rate_hz // 1000
        self._count = 0

    async def chunks(self) -> AsyncIterator[Samples]:
        """Yield what is heard, about 20 ms at a time, until the iteration is left."""
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()

        def callback(data: Any, frames: int, time: Any, status: Any) -> None:
            samples = np.array(data.T, np.float32)
            self._held.append(samples)
            self._count += frames
            while self._count > self._limit and len(self._held) > 1:
                lost = self._held.popleft().shape[1]
                self._count -= lost
                self.dropped += lost
            loop.call_soon_threadsafe(heard.set)

        try:
            stream = self._sound.InputStream(
                device=self.device,
                samplerate=self.rate_hz,
                channels=self.channels,
                dtype="float32",
                blocksize=self.rate_hz // 50,
                callback=callback,
            )
        except self._sound.PortAudioError as error:
            raise DeviceError(
                f"the microphone does not open at {self.rate_hz} Hz x {self.channels}: {error}"
            ) from None
        with stream:
            while True:
                await heard.wait()
                heard.clear()
                while self._held:
                    samples = self._held.popleft()
                    self._count -= samples.shape[1]
                    yield samples
