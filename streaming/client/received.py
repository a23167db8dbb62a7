"""What came back so far: each answer once, whatever connection brought it."""

from __future__ import annotations

from msgspec.structs import replace

from ossicle.streaming import messages as m
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.client.sound import Sound
from ossicle.streaming.encodings import decode


class Received:
    """Lets an answer through that is new, and the new part of one that overlaps what came."""

    def __init__(self) -> None:
        self.markers: dict[int, m.Marker] = {}  # sent, and not back yet
        self._seen: dict[tuple[str, str], int] = {}  # positions received, by track

    def fresh(self, response: m.Response, started: m.Started | None) -> m.Response | None:
        """Return ``response`` as the application sees it; ``None`` where it came before."""
        match response.body:
            case m.AudioOut() as body:
                assert started is not None
                return self._audio(response, body, started)
            case m.PacketsOut() as body:
                return self._packets(response, body)
            case Cue() as cue:
                return response if self._new(response.task, "cue", cue.seq) else None
            case m.Marker(number):
                return None if self.markers.pop(number, None) is None else response
        return response

    def _new(self, task: str, track: str, position: int) -> bool:
        key = (task, track)
        if position <= self._seen.get(key, -1):
            return False
        self._seen[key] = position
        return True

    def _audio(
        self, response: m.Response, body: m.AudioOut, started: m.Started
    ) -> m.Response | None:
        key = (response.task, "audio:" + body.track)
        seen = self._seen.get(key, 0)
        stop = body.start_sample + body.samples
        if stop <= seen:
            return None
        self._seen[key] = stop
        samples = decode(body.data, started.output_encoding, body.channels)
        skip = max(0, seen - body.start_sample)
        sound = Sound(
            body.track,
            samples[:, skip:],
            body.start_sample + skip,
            started.output_rate_hz,
            body.discont and not skip,
        )
        return replace(response, body=sound)

    def _packets(self, response: m.Response, body: m.PacketsOut) -> m.Response | None:
        fresh = tuple(
            p for p in body.packets if self._new(response.task, "packets", p.start_sample)
        )
        return replace(response, body=replace(body, packets=fresh)) if fresh else None
