"""What was sent and is not yet safe at the server: sent again after a reconnect."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from msgspec.structs import replace

from ossicle.streaming import messages as m


@dataclass(slots=True)
class _Item:
    request: m.Request
    samples: int  # of audio in it
    packets: int
    sample_end: int  # stream position after it
    packets_end: int


class Replay:
    """Requests in order, those sent and those waiting; pruned by checkpoints.

    Audio in FLAC or Ogg Opus has no samples here: nobody can decode it from its middle, so nothing
    of it is pruned, and a server that resumes such a stream hears it from its first byte.

    Args:
        keep: hold on to what was sent (the server keeps snapshots), or let it go at once.
        most_samples: kept at most; beyond it the oldest go and the stream cannot be resumed.
        most_bytes: of audio that cannot be pruned.
    """

    def __init__(self, keep: bool, most_samples: int, most_bytes: int = 64 << 20) -> None:
        self.keep, self.most_samples, self.most_bytes = keep, most_samples, most_bytes
        self._coded_bytes = 0
        self.complete = True  # everything since ``base`` is here
        self.sample_end = 0  # position after the last request
        self.unsent_samples = 0
        self.lost_samples = 0
        self._packets_end = 0
        self._items: deque[_Item] = deque()
        self._next = 0  # index of the first item not sent on this connection
        self._gap = False

    def __len__(self) -> int:
        return len(self._items) - self._next

    @property
    def next_samples(self) -> int:
        """Samples in the next request to send."""
        return self._items[self._next].samples if self._next < len(self._items) else 0

    def add(self, request: m.Request, samples: int = 0, packets: int = 0) -> None:
        """Append a request that holds so many samples or packets."""
        if samples and self._gap and isinstance(request, m.AudioIn):
            request, self._gap = replace(request, start_sample=self.sample_end), False
        self.sample_end += samples
        self._packets_end += packets
        self.unsent_samples += samples
        self._items.append(_Item(request, samples, packets, self.sample_end, self._packets_end))
        if type(request) is m.AudioIn and not samples:
            self._coded_bytes += len(request.data)

    def skip(self, samples: int) -> None:
        """Leave ``samples`` out: the next audio says where it belongs."""
        self.sample_end += samples
        self.lost_samples += samples
        self._gap = True

    def drop_unsent(self, limit: int) -> int:
        """Drop the oldest unsent audio until at most ``limit`` samples wait; return how many."""
        dropped = 0
        index = self._next
        while self.unsent_samples > limit and index < len(self._items):
            item = self._items[index]
            if not isinstance(item.request, m.AudioIn):
                index += 1
                continue
            del self._items[index]
            dropped += item.samples
            self.unsent_samples -= item.samples
            self._place_after_gap(index)
        self.lost_samples += dropped
        return dropped

    def _place_after_gap(self, index: int) -> None:
        for at in range(index, len(self._items)):
            item = self._items[at]
            if isinstance(item.request, m.AudioIn):
                start = item.sample_end - item.samples
                item.request = replace(item.request, start_sample=start)
                return
        self._gap = True

    def take(self, allowed: int | None = None) -> m.Request | None:
        """Return the next request to send; ``allowed`` is the position up to which audio may go."""
        if self._next >= len(self._items):
            return None
        item = self._items[self._next]
        if allowed is not None and item.samples and item.sample_end > allowed:
            return None
        self.unsent_samples -= item.samples
        if self.keep:
            self._next += 1
            self._bound()
        else:
            self._items.popleft()
            self.complete = False
        return item.request

    def prune(self, sample: int, packets: int) -> None:
        """Forget what a checkpoint at ``sample`` and ``packets`` covers."""
        covered = 0
        for index, item in enumerate(self._items):
            if index >= self._next:
                break
            if (item.samples or item.packets) and (
                item.sample_end <= sample and item.packets_end <= packets
            ):
                covered = index + 1
        for _ in range(covered):
            self._items.popleft()
        self._next -= covered
        if covered:
            self.complete = True

    def let_go(self) -> None:
        """Stop keeping what was sent: the server has no use for it."""
        self.keep = False
        for _ in range(self._next):
            self._items.popleft()
            self.complete = False
        self._next = 0

    def markers(self) -> set[int]:
        """Return the markers that are still here."""
        return {i.request.id for i in self._items if isinstance(i.request, m.Marker)}

    def rewind(self) -> None:
        """Send everything that is held again, on a new connection."""
        self._next = 0
        self.unsent_samples = sum(item.samples for item in self._items)

    def _bound(self) -> None:
        if self._coded_bytes > self.most_bytes:
            self.let_go()
            return
        while self._next > 1 and self.sample_end - self._items[0].sample_end > self.most_samples:
            self._items.popleft()
            self._next -= 1
            self.complete = False
