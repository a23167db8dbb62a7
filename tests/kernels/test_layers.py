"""GRU, snake and log mel."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.kernels import gru, logmel, snake
from ossicle.kernels.conv.cpu import fixed24
from ossicle.kernels.errors import DtypeError, RangeError, ShapeError
from ossicle.kernels.gru import reference as gru_reference
from ossicle.kernels.logmel import reference as mel_reference
from ossicle.kernels.snake import reference as snake_reference
from ossicle.kernels.tolerance import close

pytestmark = pytest.mark.usefixtures("variant")
Floats = NDArray[np.float32]


def floats(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "inputs", "B", "T"), [(32, 20, 3, 6), (7, 5, 1, 1), (65, 16, 2, 9)]
)
@pytest.mark.parametrize("dtype", list(gru.KINDS))
def test_gru(
    width: int, inputs: int, B: int, T: int, dtype: gru.Dtype, rng: np.random.Generator
) -> None:
    w = [floats(rng, 3 * width, inputs), floats(rng, 3 * width, width) * 0.2]
    bias = [floats(rng, 3 * width), floats(rng, 3 * width)]
    x, h = floats(rng, B, T, inputs), floats(rng, B, width)
    whole, _ = gru_reference.gru(x, h, *w, *bias)
    kept = [fixed24(a) for a in w] if dtype == "fixed24" else w
    want, last = gru_reference.gru(x, h, *kept, *bias)
    packed = gru.pack(w[0], w[1], bias[0], bias[1], dtype=dtype)
    state = h.copy()
    cut = T // 2
    parts = [np.full((B, n, width), np.nan, np.float32) for n in (cut, T - cut)]
    for part, run in zip(parts, (x[:, :cut], x[:, cut:]), strict=True):
        if part.size:
            gru.step(packed, state, np.ascontiguousarray(run), out=part)
    assert close("gru", np.concatenate(parts, 1), want)
    assert close("gru", np.concatenate(parts, 1), whole, dtype)
    assert close("gru", state, last)
    assert (gru.fresh(packed, 2) == 0).all()


def test_gru_bad_input_is_named(rng: np.random.Generator) -> None:
    w, hh, b = floats(rng, 12, 3), floats(rng, 12, 4), floats(rng, 12)
    with pytest.raises(ShapeError, match="b_hh"):
        gru.pack(w, hh, b, b[:11].copy())
    with pytest.raises(RangeError, match="dtype is 'int8'; it must be one of float32, fixed24"):
        gru.pack(w, hh, b, b, dtype="int8")  # type: ignore[arg-type]
    packed = gru.pack(w, hh, b, b)
    with pytest.raises(ShapeError, match=r"h has shape \[2, 4\]"):
        gru.step(packed, gru.fresh(packed, 2), floats(rng, 1, 1, 3))


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 33), (64,)])
@pytest.mark.parametrize("own_beta", [False, True])
def test_snake(shape: tuple[int, ...], own_beta: bool, rng: np.random.Generator) -> None:
    x = floats(rng, *shape) * 30
    alpha = rng.uniform(0.05, 6.0, shape[-1]).astype(np.float32)
    beta = rng.uniform(0.05, 6.0, shape[-1]).astype(np.float32) if own_beta else None
    out = np.full(shape, np.nan, np.float32)
    snake.snake(x, alpha, beta, out=out)
    assert close("snake", out, snake_reference.snake(x, alpha, beta))
    snake.snake(x, alpha, beta, out=x)
    assert (x == out).all()


def test_snake_passes_bad_numbers_on_and_names_bad_arrays() -> None:
    one = np.ones(3, np.float32)
    got = snake.snake(np.array([np.nan, 1.0, 2.0], np.float32), one)
    assert np.isnan(got[0])
    assert np.isfinite(got[1:]).all()
    with pytest.raises(RangeError, match="beta"):
        snake.snake(one, one, np.full(3, -1e-9, np.float32))
    with pytest.raises(ShapeError, match="alpha"):
        snake.snake(one, one[:2].copy())
    with pytest.raises(DtypeError, match="x is float64"):
        snake.snake(np.ones(3), one)  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("offset", [0.0, 0.01])
@pytest.mark.parametrize("formula", ["htk", "slaney"])
@pytest.mark.parametrize(("n_fft", "mels"), [(512, 64), (400, 80), (320, 23)])
def test_log_mel(
    power: int,
    offset: float,
    formula: mel_reference.Formula,
    n_fft: int,
    mels: int,
    rng: np.random.Generator,
) -> None:
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    frames = floats(rng, 5, n_fft)
    frames[3] = 0.0
    mel = logmel.filters(
        16000,
        window,
        mels,
        20.0,
        7600.0,
        formula=formula,
        power=power,
        offset=offset,
        floor=1e-8,
        decimal=power == 1,
    )
    out = np.full((5, mels), np.nan, np.float32)
    logmel.log_mel(frames, mel, out=out)
    dense = mel_reference.filters(16000, n_fft, mels, 20.0, 7600.0, formula)
    want = mel_reference.log_mel(
        frames, window, dense, power=power, offset=offset, floor=1e-8, decimal=power == 1
    )
    assert close("logmel", out, want)


def test_mel_filters_equal_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    for formula in ("htk", "slaney"):
        want = librosa.filters.mel(
            sr=16000, n_fft=512, n_mels=64, fmin=50, fmax=8000, htk=formula == "htk"
        )
        got = mel_reference.filters(16000, 512, 64, 50.0, 8000.0, formula)  # type: ignore[arg-type]
        assert np.abs(got - want).max() < 1e-7


def test_log_mel_bad_input_is_named() -> None:
    window = np.ones(64, np.float32)
    with pytest.raises(RangeError, match="edges are 20"):
        logmel.filters(16000, window, 10, 20.0, 9000.0)
    with pytest.raises(RangeError, match="floor is 0"):
        logmel.filters(16000, window, 10, floor=0.0)
    mel = logmel.filters(16000, window, 4)
    with pytest.raises(ShapeError, match=r"frames has shape \[1, 63\]"):
        logmel.log_mel(np.zeros((1, 63), np.float32), mel)
