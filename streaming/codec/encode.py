"""Samples in, packets out: the encoding half of a codec as a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ossicle.runtime.audio import AudioFormat, Chunk, Samples, check, scrub
from ossicle.runtime.bundle import Bundle
from ossicle.runtime.errors import AudioError, PacketError
from ossicle.runtime.task import Event, Hop, NoticeEvent, PacketEvent
from ossicle.streaming.codec.encodestate import EncodeState, Pending
from ossicle.streaming.codec.layout import codec_program, frames_per_hop, layout_of
from ossicle.streaming.codec.noise import SilenceDetector, SilenceState
from ossicle.streaming.codec.onwire import Wire, frames_per_message
from ossicle.streaming.codec.packet import MAX_FRAMES, Noise
from ossicle.streaming.codec.rate import Plan, RateControl, at_layers
from ossicle.streaming.codec.sender import Sender, Sent

BRIDGE_S = 1.0  # gaps up to this are encoded as silence; longer ones are skipped
NETWORK_MS = 20.0  # of a delay budget
COUNT = "layers"  # the program's condition that says how many are searched
OPTIONS = ("kbps", "layers", "frames", "loss")


class EncodeTask:
    """Encodes with any codec bundle; output frame ``i`` holds input samples ``i * hop`` on.

    A model whose hop is several frames (EnCodec: 8) gives them one by one; packets neither know
    nor show it.

    The stream ends with as many frames as the decoder needs to give every sample back. Gaps of
    up to a second are encoded as silence, longer ones skipped: time is kept either way. NaN and
    Inf are silenced before they reach the model. A program that takes ``layers`` is told how many
    of them will be sent, and searches no others.

    Args:
        bundle: with a program ``encode``.
        kbps: target rate; on the wire, headers included, if ``wire`` is given, else of the codes.
            None: every layer.
        layers: fixed number of layers instead of a rate.
        frames: per packet; None: as many as ``budget_ms`` allows, else one hop of the model.
        budget_ms: from a sample to its being heard, in all; the network is taken to need
            ``NETWORK_MS`` of it, the receiver one frame of waiting.
        wire: what every packet costs beside its bytes.
        silence_dbfs: below this level a noise descriptor is sent instead of codes; None: never.
    """

    kind = "encode"
    program = "encode"

    def __init__(
        self,
        bundle: Bundle,
        *,
        kbps: float | None = None,
        layers: int | None = None,
        frames: int | None = None,
        budget_ms: float | None = None,
        wire: Wire | None = None,
        silence_dbfs: float | None = None,
    ) -> None:
        manifest = bundle.manifest
        line = codec_program(manifest, "encode")
        self.model = manifest.name
        self.manifest = manifest
        self.layout = layout_of(bundle)
        self.per_hop = frames_per_hop(manifest)
        self.input_format = AudioFormat(manifest.sample_rate_hz, manifest.channels)
        self.wire = wire
        self._source, self._sink = line.inputs[0].name, line.outputs[0].name
        self._counts = COUNT in {given.name for given in line.inputs}
        self._sender = Sender(self.layout)
        self._rate = RateControl(self.layout, wire)
        self._silence = None if silence_dbfs is None else SilenceDetector(silence_dbfs)
        self._first: dict[str, Any] = {
            "kbps": 1e6 if kbps is None else kbps,
            "frames": self._packet_frames(budget_ms) if frames is None else _frames(frames),
            "layers": 0 if layers is None else self.layout.check(layers),
        }
        count = self._first["frames"]
        self.latency = self.layout.hop * (count + self.per_hop - math.gcd(count, self.per_hop)) - 1

    def open(self) -> EncodeState:
        """Return the state of a stream that has not begun."""
        rate = self._rate.open(self._first["kbps"], self._first["frames"])
        state = EncodeState(
            self._sender.open(),
            rate,
            SilenceState(),
            Plan(1),
            np.zeros((self.input_format.channels, 0), np.float32),
            self._first["layers"],
        )
        self._replan(state)
        return state

    def push(self, state: EncodeState, item: Chunk) -> list[Hop]:
        """Return the hops that ``item`` completes.

        Raises:
            AudioError: not at the model's rate (resample first), or older than what was taken.
        """
        check(item, self.input_format)
        if state.ended:
            raise AudioError("audio after the end of the stream; open a new one")
        samples, _ = scrub(item.samples)
        if state.origin < 0:
            state.origin = item.start
        gap = item.start - state.origin - state.fed
        if gap < 0:
            raise AudioError(
                f"chunk starts at sample {item.start}, but the stream is at "
                f"{state.origin + state.fed} already; samples may be missing, never repeated"
            )
        hops: list[Hop] = []
        if gap > BRIDGE_S * self.input_format.rate_hz:
            hops, samples = self._leap(state, item.start - state.origin, samples)
        elif gap:
            lost = np.zeros((samples.shape[0], gap), np.float32)
            samples = np.concatenate([lost, samples], axis=1)
        return hops + self._cut(state, samples)

    def take(
        self, state: EncodeState, hop: Hop, outputs: Mapping[str, NDArray[Any]]
    ) -> list[Event]:
        """Return the packets that the codes ``[K, 1]`` of ``hop`` complete."""
        about = state.pending.pop(0)
        sent: list[Sent] = []
        if about.skip_to >= 0:
            sent += self._sender.skip(state.sender, about.skip_to, state.plan)
        codes = outputs[self._sink]
        if about.layers:  # -1 in the others: they were not asked for when this hop left
            codes = codes[: about.layers]
        for at in range(about.frames):
            if about.noise_level >= 0:
                noise = Noise(about.noise_level, about.noise_bands)
                sent += self._sender.silence(state.sender, noise, state.plan)
            else:
                sent += self._sender.push(state.sender, codes[:, at : at + 1], state.plan)
        return self._events(state, sent)

    def frames(self, state: EncodeState) -> int:
        """How many frames the hops so far make; at the end without those behind the audio."""
        count = state.hops * self.per_hop
        if not state.ended:
            return count
        return min(count, -(-(state.fed + self.manifest.delay) // self.layout.hop))

    def flush(self, state: EncodeState) -> list[Hop]:
        """Return the hops that bring every sample out of the decoder."""
        if state.ended:
            return []
        state.ended = True
        size = self.manifest.hop
        needed = -(-(state.fed + self.manifest.delay) // size) if state.fed else 0
        room = (needed - state.hops) * size - state.held.shape[1]
        return self._cut(state, np.zeros((state.held.shape[0], room), np.float32), count=False)

    def end(self, state: EncodeState) -> list[Event]:
        """Return the last packet and the totals."""
        events = self._events(state, self._sender.flush(state.sender, state.plan))
        seconds = max(state.fed, 1) / self.input_format.rate_hz
        overhead = 0 if self.wire is None else self.wire.overhead_bytes
        fields = {
            "samples": max(state.fed, 0),
            "frames": self.frames(state),
            "packets": state.packets,
            "payload_kbps": state.payload_bits / seconds / 1000,
            "wire_kbps": 8 * (state.packet_bytes + overhead * state.packets) / seconds / 1000,
        }
        text = (
            f"{fields['payload_kbps']:.2f} kbps of codes, {fields['wire_kbps']:.2f} kbps on the "
            f"wire ({'packets alone' if self.wire is None else self.wire.name})"
        )
        return [*events, NoticeEvent("encoded", text, fields)]

    def update(self, state: EncodeState, options: Mapping[str, Any]) -> list[Event]:
        """Change ``kbps``, ``layers`` (0: by rate), ``frames``, or report ``loss`` (a share).

        None stands for what the task was made with.

        Raises:
            PacketError: an unknown option, or a value out of range.
        """
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown:
            raise PacketError(f"an encoder has no option {unknown}; {', '.join(OPTIONS)} exist")
        given = {**self._first, **{k: v for k, v in options.items() if v is not None}}
        rate, layers = replace(state.rate), state.layers
        if "kbps" in options:
            asked = self._rate.open(given["kbps"], rate.frames)
            rate = replace(asked, loss=rate.loss, guard=rate.guard)
        if "frames" in options:
            rate.frames = _frames(given["frames"])
        if "layers" in options:
            layers = given["layers"] and self.layout.check(given["layers"])
        if options.get("loss") is not None:
            self._rate.report(rate, given["loss"])
        before = state.plan
        state.rate, state.layers = rate, layers
        self._replan(state)
        if state.plan == before:
            return []
        now = state.plan
        fields = {"layers": now.layers, "frames": now.frames,
                  "redundant_layers": now.redundant_layers}  # fmt: skip
        text = f"{now.layers} layers, {now.redundant_layers} more of an earlier packet"
        return [NoticeEvent("rate", text, fields)]

    def _packet_frames(self, budget_ms: float | None) -> int:
        if budget_ms is None:
            return self.per_hop
        hop_ms = 1000.0 / self.layout.frame_rate
        delay_ms = self.input_format.duration_ms(self.manifest.delay)
        most = frames_per_message(budget_ms, hop_ms, delay_ms + hop_ms + NETWORK_MS)
        return max(most // self.per_hop, 1) * self.per_hop

    def _replan(self, state: EncodeState) -> None:
        plan = self._rate.plan(state.rate)
        state.plan = at_layers(plan, state.layers, self.layout) if state.layers else plan

    def _leap(
        self, state: EncodeState, position: int, samples: Samples
    ) -> tuple[list[Hop], Samples]:
        """End the hop that is filling and go on in the one that holds ``position``."""
        size, filled = self.manifest.hop, state.held.shape[1]
        tail = np.zeros((state.held.shape[0], size - filled), np.float32)
        hops = self._cut(state, tail) if filled else []
        hop, lead = divmod(position, size)
        state.hops, state.fed, state.skip = hop, hop * size, True
        zeros = np.zeros((samples.shape[0], lead), np.float32)
        return hops, np.concatenate([zeros, samples], axis=1)

    def _cut(self, state: EncodeState, samples: Samples, count: bool = True) -> list[Hop]:
        size = self.manifest.hop
        state.fed += samples.shape[1] if count else 0
        signal = np.concatenate([state.held, samples], axis=1) if state.held.size else samples
        whole = signal.shape[1] // size
        state.held = signal[:, whole * size :].copy()
        return [self._hop(state, signal[:, i * size : (i + 1) * size]) for i in range(whole)]

    def _hop(self, state: EncodeState, samples: Samples) -> Hop:
        start = state.origin + state.hops * self.manifest.hop
        first = self.frames(state)
        state.hops += 1
        about = Pending(self.frames(state) - first, first if state.skip else -1)
        noise = None if self._silence is None else self._silence.step(state.silence, samples)
        if noise is not None:
            about.noise_level, about.noise_bands = noise.level, noise.bands
        state.pending.append(about)
        inputs = {self._source: np.ascontiguousarray(samples)}
        if self._counts and state.asked != state.plan.layers:  # the model holds it until it changes
            state.asked = state.plan.layers
            inputs[COUNT] = np.array([state.asked], np.int32)
        about.layers = state.asked
        hop = Hop(inputs, start, start + self.manifest.hop, state.skip)
        state.skip = False
        return hop

    def _events(self, state: EncodeState, sent: list[Sent]) -> list[Event]:
        events: list[Event] = []
        for packet in sent:
            state.packets += 1
            state.packet_bytes += len(packet.data)
            state.payload_bits += packet.payload_bits
            start = state.origin + packet.first * self.layout.hop
            stop = start + packet.frames * self.layout.hop
            events.append(PacketEvent(packet.data, start, stop, packet.payload_bits))
        return events


def _frames(frames: int) -> int:
    if not 1 <= frames <= MAX_FRAMES:
        raise PacketError(f"{frames} frames a packet; 1 to {MAX_FRAMES} allowed")
    return frames
