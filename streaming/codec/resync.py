"""How long a decoder remembers a loss: frames until its output is the same again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ossicle.runtime.audio import AudioFormat, Chunk, Samples
from ossicle.runtime.errors import AudioError
from ossicle.runtime.model import Model
from ossicle.runtime.task import InlineRun, PacketEvent
from ossicle.streaming.codec.decode import DecodeTask
from ossicle.streaming.codec.encode import EncodeTask
from ossicle.streaming.codec.layout import layout_of
from ossicle.streaming.codec.packet import Codes
from ossicle.streaming.codec.packetreader import read

QUIET_DB = -60.0  # below the signal in the same frame, nobody hears the difference


@dataclass(frozen=True, slots=True)
class Resync:
    """Counted from the first frame that arrived again; None: not within what was listened to."""

    quiet_frames: int | None  # until the difference stays below ``QUIET_DB``
    identical_frames: int | None  # until it stays zero to the bit


def resynchronisation(model: Model, signal: Samples, lost: int = 1, after: int = 200) -> Resync:
    """Lose ``lost`` frames in the middle of ``signal`` and say when the decoder is over it.

    Args:
        model: a codec.
        signal: ``[C, T]`` at its rate, at least ``lost + after + 100`` frames long.
        lost: frames in a row that are replaced by what concealment decodes: zero features.
        after: frames that are listened to.

    Raises:
        AudioError: a signal too short.
    """
    layout = layout_of(model.bundle)
    form = AudioFormat(layout.sample_rate_hz, model.manifest.channels)
    run = InlineRun(EncodeTask(model.bundle), model)
    events = run.feed(Chunk(signal, 0, form)) + run.finish()
    frames = [read(e.packet, layout).codes for e in events if isinstance(e, PacketEvent)]
    begin = len(frames) - after - lost
    if begin < 100:
        raise AudioError(f"{len(frames)} frames of audio; at least {lost + after + 100} needed")
    whole = _decode(model, frames)
    absent = np.full_like(frames[0], -1)
    holed = _decode(model, [*frames[:begin], *[absent] * lost, *frames[begin + lost :]])
    one, two = whole[begin + lost :], holed[begin + lost :]
    error = np.square(one - two, dtype=np.float64).sum((1, 2))
    level = np.square(whole, dtype=np.float64).sum((1, 2)).mean()
    return Resync(
        _settled(error > level * 10 ** (QUIET_DB / 10)), _settled((one != two).any((1, 2)))
    )


def _decode(model: Model, frames: list[Codes]) -> Samples:
    """Return ``[frames, C, hop]``."""
    task = DecodeTask(model.bundle)
    line = model.program(task.program)
    memory = model.open(1, task.program)
    source, sink = line.inputs[0].name, line.outputs[0].name
    made = [model.step(memory, {source: codes[None]})[sink][0] for codes in frames]
    return np.stack(made)


def _settled(differs: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int | None:
    """Return how many frames pass until none differs; None if the last one does."""
    if differs[-1]:
        return None
    found = np.flatnonzero(differs)
    return int(found[-1]) + 1 if found.size else 0
