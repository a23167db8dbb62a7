"""Codec packets as they come in, sound as the sound card wants it: two clocks, one delay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ossicle.runtime.errors import DeviceError
from ossicle.runtime.model import Model
from ossicle.streaming.client.device import open_output
from ossicle.streaming.codec.playout import Playout, PlayoutReport
from ossicle.streaming.messages import Notice

WRITE_MS = 20.0
DRIFT_WORTH_PPM = 20.0  # a change since the last notice that is worth another


class Output(Protocol):
    """A sound device that is open; ``write`` returns when it has taken ``[T, C]`` samples."""

    def write(self, samples: Any) -> Any:
        """Hand over samples; waits as long as the device's own clock makes it wait."""
        ...


Opener = Callable[[int, int], AbstractContextManager[Output]]  # rate in Hz, channels


class Player:
    """Plays packets at a steady delay; the sender's clock may run faster or slower than the card's.

    ``push`` takes packets from wherever they come; a thread decodes and writes to the device. How
    far the clocks are apart comes as a ``CLOCK_DRIFT`` notice, in ppm, and is resampled away.

    Args:
        model: the codec that the packets belong to.
        delay: target, in codec frames.
        on_notice: called on the player's thread.
        opener: opens the device; the default output where it is not given.
    """

    def __init__(
        self,
        model: Model,
        delay: int = 3,
        on_notice: Callable[[Notice], None] = lambda notice: None,
        opener: Opener = open_output,
    ) -> None:
        self._playout = Playout(model, delay)
        self._state, self._memory = self._playout.open()
        self._form = self._playout.task.output_format
        self._on_notice, self._opener = on_notice, opener
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._said_ppm = 0.0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="ossicle-player", daemon=True)

    def push(self, packet: bytes, arrival_ns: int | None = None) -> None:
        """Take a packet; ``arrival_ns`` of the monotonic clock is now where it is not given.

        Raises:
            PacketError: no packet of this codec.
            DeviceError: the device has failed.
        """
        if self._error is not None:
            raise DeviceError(f"the sound device failed: {self._error}")
        with self._lock:
            now = time.monotonic_ns() if arrival_ns is None else arrival_ns
            self._playout.push(self._state, self._memory, packet, now)

    def report(self) -> PlayoutReport:
        """Return how playing goes."""
        with self._lock:
            return self._playout.report(self._state)

    def play(self, output: Output) -> None:
        """Decode and write the next ``WRITE_MS``; the player's thread does this again and again."""
        count = round(self._form.rate_hz * WRITE_MS / 1000)
        with self._lock:
            samples = self._playout.pull(self._state, self._memory, count)
            ppm = self._playout.report(self._state).ppm
        output.write(samples.T)
        if ppm is not None and abs(ppm - self._said_ppm) >= DRIFT_WORTH_PPM:
            self._said_ppm = ppm
            text = f"the sender's clock runs {ppm:+.0f} ppm against this sound device's"
            self._on_notice(Notice("CLOCK_DRIFT", text, {"ppm": f"{ppm:.1f}"}))

    def __enter__(self) -> Player:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop playing; what waits is not heard."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        try:
            with self._opener(self._form.rate_hz, self._form.channels) as output:
                while not self._over.is_set():
                    self.play(output)
        except Exception as error:  # told to whoever pushes next
            self._error = error
