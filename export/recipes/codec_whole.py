"""The codec as it is trained: encoder, books and decoder in one module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ossicle.export.models.codec import CodecShape, Decoder, Encoder
from ossicle.export.recipes.common.quantiser import ResidualBooks

VERSION = "0.3.1"  # of the bundle: other weights are another version
LAYERS, CODES = 12, 1024


class Codec(nn.Module):
    """Encoder, books and decoder, as they are trained together. Latents are mean-centred."""

    fitted: Tensor

    def __init__(self, shape: CodecShape | None = None) -> None:
        super().__init__()
        s = self.shape = shape or CodecShape()
        self.encoder, self.decoder = Encoder(s), Decoder(s)
        self.books = ResidualBooks(LAYERS, CODES, s.latent)
        self.register_buffer("fitted", torch.tensor(False))

    def encode(self, audio: Tensor) -> Tensor:
        """``[B, T hop]`` to latents ``[B, T, D]``."""
        latent, _ = self.encoder(audio[:, None], self.encoder.initial(len(audio)))
        out: Tensor = latent.float()
        return out

    def decode(self, latent: Tensor) -> Tensor:
        """(Quantised) latents ``[B, T, D]`` to ``[B, T hop]``."""
        out, _ = self.decoder(latent, self.decoder.initial(len(latent)))
        audio: Tensor = out[:, 0].float()
        return audio

    @torch.no_grad()
    def at_layers(self, audio: Tensor, layers: list[int]) -> list[Tensor]:
        """``[B, T hop]`` coded and decoded with each number of layers (0: not quantised)."""
        latent = self.encode(audio)
        _, rests = self.books.encode(latent.reshape(-1, self.shape.latent))
        left = rests.reshape(len(rests), *latent.shape)
        return [self.decode(latent - left[k] if k else latent) for k in layers]
