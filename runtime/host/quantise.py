"""Residual vector quantisation between two graphs: latents to codes and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ossicle.runtime.errors import ManifestError
from ossicle.runtime.host.base import Array, HostState, Params, host_op
from ossicle.runtime.host.spectrum import Stateless


class RvqEncode(Stateless):
    """``[B, T, D]`` -> int32 ``[B, K, T]``."""

    def __init__(self, books: Array) -> None:
        from ossicle.kernels import rvq  # late: kernels may compile on import

        self.depth = len(books)
        self.packed = rvq.pack(books)
        self.encode = rvq.encode

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the codes of all layers."""
        batch, frames, width = inputs[0].shape
        rows = np.ascontiguousarray(inputs[0].reshape(batch * frames, width), np.float32)
        codes = np.empty((self.depth, len(rows)), np.int32)  # given, so that only C++ checks
        self.encode(rows, self.packed, out=codes)
        if batch == 1:
            return [codes[None]]
        return [np.ascontiguousarray(codes.reshape(self.depth, batch, frames).transpose(1, 0, 2))]


class RvqDecode(Stateless):
    """int32 ``[B, K, T]`` -> ``[B, T, D]``; code ``-1`` is a layer that did not arrive."""

    def __init__(self, books: Array) -> None:
        padded = np.zeros((len(books), books.shape[1] + 1, books.shape[2]), np.float32)
        padded[:, :-1] = books  # index -1 is the added row of zeros
        self.books = padded
        self.layers = np.arange(len(books))[None, :, None]

    def run(self, state: HostState, inputs: Sequence[Array]) -> list[Array]:
        """Return the sum of the codes' vectors."""
        codes = inputs[0]
        if codes.min() < -1 or codes.max() >= self.books.shape[1] - 1:
            raise ManifestError(
                f"codes from {codes.min()} to {codes.max()}; "
                f"-1 to {self.books.shape[1] - 2} expected"
            )
        return [self.books[self.layers, codes].sum(axis=1)]


def _books(params: Params) -> Array:
    books = params.array("books").astype(np.float32)
    if books.ndim != 3:
        raise ManifestError(f"{params.name}.books of shape {books.shape}; [K, N, D] expected")
    return books


@host_op("rvq_encode")
def _rvq_encode(params: Params) -> RvqEncode:
    return RvqEncode(_books(params))


@host_op("rvq_decode")
def _rvq_decode(params: Params) -> RvqDecode:
    return RvqDecode(_books(params))
