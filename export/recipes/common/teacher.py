"""Lyra v2 as a teacher for codecs: its features, and what its decoder makes of them inside.

The three TFLite files (Apache-2.0, google/lyra 1.3.2) are read by path; nothing of them is kept.
Both networks are deterministic and causal, so plain regression on their outputs is well posed
where regression on natural speech blurs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ossicle.export.recipes.common.corpus import HOP, Samples

Frames = NDArray[np.float32]
WIDTH = 64  # features a hop
INSIDE = {"lift": 164, "fine": 209, "finer": 255, "finest": 285}  # tensors of lyragan.tflite


@dataclass(frozen=True)
class Rendition:
    """What the teacher's decoder did with features ``[T, 64]``: activations and audio, a row a hop.

    ``inside`` is ``lift`` ``[T, 2 * 256]`` and ``fine`` ``[T, 2 * 256]`` (100 frames a second),
    ``finer`` ``[T, 4 * 128]`` (200) and ``finest`` ``[T, 20 * 64]`` (1000), all before their
    rectifiers.
    """

    features: Frames
    inside: dict[str, NDArray[np.float16]]
    audio: Frames  # [T, 320]


class LyraTeacher:
    """Runs the teacher's encoder and decoder, one thread, from a folder of its TFLite files."""

    def __init__(self, weights: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.encoder = Interpreter(str(weights / "soundstream_encoder.tflite"), num_threads=1)
        self.decoder = Interpreter(
            str(weights / "lyragan.tflite"),
            num_threads=1,
            experimental_op_resolver_type=plain,
            experimental_preserve_all_tensors=True,
        )
        for network in (self.encoder, self.decoder):
            network.allocate_tensors()
        tensors = {t["index"]: t for t in self.decoder.get_tensor_details()}
        self.scale = {k: tensors[i]["quantization"] for k, i in INSIDE.items()}

    def features(self, audio: Samples) -> Frames:
        """The encoder's output for ``[T hop]`` samples of one stream, ``[T, 64]``."""
        self.encoder.reset_all_variables()
        put = self.encoder.get_input_details()[0]["index"]
        get = self.encoder.get_output_details()[0]["index"]
        rows = []
        for hop in audio.reshape(-1, 1, HOP):
            self.encoder.set_tensor(put, hop.astype(np.float32))
            self.encoder.invoke()
            rows.append(self.encoder.get_tensor(get).reshape(WIDTH).copy())
        return np.stack(rows)

    def render(self, features: Frames) -> Rendition:
        """The decoder's activations and audio for one stream of features ``[T, 64]``."""
        self.decoder.reset_all_variables()
        put = self.decoder.get_input_details()[0]["index"]
        get = self.decoder.get_output_details()[0]["index"]
        inside: dict[str, list[NDArray[np.float16]]] = {k: [] for k in INSIDE}
        audio = []
        for row in features:
            self.decoder.set_tensor(put, row.reshape(1, 1, WIDTH).astype(np.float32))
            self.decoder.invoke()
            for name, index in INSIDE.items():
                value = self.decoder.get_tensor(index).ravel().astype(np.float32)
                scale, zero = self.scale[name]
                inside[name].append(((value - zero) * (scale or 1.0)).astype(np.float16))
            audio.append(self.decoder.get_tensor(get).ravel().astype(np.float32))
        stacked = {k: np.stack(v) for k, v in inside.items()}
        return Rendition(features, stacked, np.stack(audio))
