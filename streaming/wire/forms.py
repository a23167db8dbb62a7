"""Messages that travel fifty times a second, filled into protobuf objects that are kept.

Making a nested protobuf message costs some fifteen times what filling one in again costs, so each
stream keeps one of each kind that comes often. The bytes are the same; a test compares them.
"""

from __future__ import annotations

import time
from typing import Any

from ossicle.streaming import messages as m
from ossicle.streaming.proto import ossicle_pb2 as pb
from ossicle.streaming.wire.requests import request_to_pb
from ossicle.streaming.wire.responses import response_to_pb


class _Form:
    """An answer of one task with a ledger, kept to be filled in again."""

    def __init__(self, task: str) -> None:
        self.message = pb.StreamResponse(task=task)
        self.ledger = self.message.ledger
        self.ledger.SetInParent()  # there, even where all its fields are zero

    def fill(self, response: m.Response) -> bytes:
        """Return the answer's bytes; its time since the engine let go counts as ``post``."""
        ledger, out = response.ledger, self.ledger
        assert ledger is not None
        ready_ns = response.ready_ns
        post_us = ledger.post_us
        if ready_ns:
            post_us += max(0, (time.monotonic_ns() - ready_ns) // 1000)
        out.wait_us = ledger.wait_us
        out.queue_us = ledger.queue_us
        out.batch_us = ledger.batch_us
        out.compute_us = ledger.compute_us
        out.post_us = post_us
        out.algorithmic_samples = ledger.algorithmic_samples
        out.backlog_ms = ledger.backlog_ms
        self.message.seq = response.seq
        self.fill_body(response.body)
        return self.message.SerializeToString()

    def fill_body(self, body: Any) -> None:
        """Set the fields of the answer's body."""
        raise NotImplementedError


class _AudioForm(_Form):
    def __init__(self, task: str) -> None:
        super().__init__(task)
        self._audio = self.message.audio
        self._audio.SetInParent()

    def fill_body(self, body: m.AudioOut) -> None:
        audio = self._audio
        audio.track = body.track
        audio.data = body.data
        audio.start_sample = body.start_sample
        audio.samples = body.samples
        audio.channels = body.channels
        audio.discont = body.discont


class _PacketForm(_Form):
    """One packet in an answer, as it is unless several frames' worth of audio came at once."""

    def __init__(self, task: str) -> None:
        super().__init__(task)
        self._packets = self.message.packets
        self._packet = self._packets.packets.add()

    def fill_body(self, body: m.PacketsOut) -> None:
        packet = body.packets[0]
        self._packet.data = packet.data
        self._packet.start_sample = packet.start_sample
        self._packet.samples = packet.samples
        self._packets.sample_rate_hz = body.sample_rate_hz
        self._packets.layers = body.layers


class ResponseWriter:
    """Turns one stream's answers into bytes, one after another."""

    def __init__(self) -> None:
        self._forms: dict[tuple[str, type], _Form] = {}

    def write(self, response: m.Response) -> bytes:
        """Return the bytes of ``response``."""
        body: Any = response.body
        kind = type(body)
        form = self._forms.get((response.task, kind))
        if form is None and response.ledger is not None:
            if kind is m.AudioOut:
                form = self._forms[response.task, kind] = _AudioForm(response.task)
            elif kind is m.PacketsOut:
                form = self._forms[response.task, kind] = _PacketForm(response.task)
        plain = form is None or response.ledger is None
        if plain or (kind is m.PacketsOut and len(body.packets) != 1):
            return response_to_pb(response).SerializeToString()
        try:
            return form.fill(response)  # type: ignore[union-attr]
        except ValueError:  # a ledger of over an hour does not fit its field and has to be cut
            return response_to_pb(response).SerializeToString()


class RequestWriter:
    """Turns one stream's requests into bytes, one after another."""

    def __init__(self) -> None:
        self._message = pb.StreamRequest()
        self._audio = self._message.audio
        self._audio.SetInParent()

    def write(self, request: m.Request) -> bytes:
        """Return the bytes of ``request``."""
        if type(request) is not m.AudioIn or request.start_sample is not None:
            return request_to_pb(request).SerializeToString()
        self._audio.data = request.data
        self._audio.capture_unix_ns = request.capture_unix_ns
        return self._message.SerializeToString()
