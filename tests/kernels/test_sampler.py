"""Samplers on a problem with a known answer: data drawn from a Gaussian.

If data is N(mean, spread^2), a sample at a node is N(alpha mean, alpha^2 spread^2 + sigma^2), the
best
estimate of the data is known, and the probability flow carries ``z`` standard deviations to the
same ``z``.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ossicle.kernels import sampler
from ossicle.kernels.errors import RangeError, ShapeError
from ossicle.kernels.tolerance import close

MEAN, SPREAD = 0.7, 0.4
F64 = NDArray[np.float64]


def width(alpha: float, sigma: float) -> float:
    return float(np.sqrt(alpha**2 * SPREAD**2 + sigma**2))


def speak(predicts: sampler.Predicts, x: F64, alpha: float, sigma: float) -> F64:
    """What a perfect model says of ``x``."""
    data = MEAN + alpha * SPREAD**2 / width(alpha, sigma) ** 2 * (x - alpha * MEAN)
    noise = (x - alpha * data) / sigma
    answers = {
        "data": data,
        "noise": noise,
        "v": alpha * noise - sigma * data,
        "flow": noise - data,
    }
    return np.asarray(answers[predicts])


def solve(plan: sampler.Plan, x: F64, predicts: sampler.Predicts) -> F64:
    """The run in fp64, so that only the solver's own error is seen."""
    zero = np.zeros_like(x)
    h1 = h2 = last = zero
    for call in range(plan.calls):
        m = speak(predicts, x, plan.alpha[call], plan.sigma[call])
        columns = (x, m, h1, h2, last, zero)
        following, keep, aside = (
            sum(float(w) * c for w, c in zip(row, columns, strict=True))
            for row in plan.weights[call]
        )
        if plan.weights[call, 1].any():
            h1, h2 = np.asarray(keep), h1
        if plan.weights[call, 2].any():
            last = np.asarray(aside)
        x = np.asarray(following)
    return x


def miss(solver: sampler.Solver, predicts: sampler.Predicts, schedule: sampler.Schedule) -> float:
    z = np.linspace(-2.0, 2.0, 9)
    a, s = schedule.alpha, schedule.sigma
    start = a[0] * MEAN + width(a[0], s[0]) * z
    end = a[-1] * MEAN + width(a[-1], s[-1]) * z
    return float(
        np.abs(
            solve(sampler.plan(solver, schedule, predicts=predicts), start, predicts) - end
        ).max()
    )


def log_spaced(steps: int) -> sampler.Schedule:
    """Variance preserving, even in log SNR: what the multistep solvers' orders are stated in."""
    half = np.linspace(-2.0, 2.5, steps + 1)
    alpha = 1.0 / np.sqrt(1.0 + np.exp(-2.0 * half))
    return sampler.Schedule(half, alpha, np.sqrt(1.0 - alpha**2))


@pytest.mark.parametrize("predicts", ["noise", "data", "v", "flow"])
@pytest.mark.parametrize(
    ("solver", "order"), [("ddim", 1), ("euler", 1), ("dpmpp_2m", 2), ("heun", 2), ("unipc", 3)]
)
def test_order_of_convergence(
    solver: sampler.Solver, order: int, predicts: sampler.Predicts
) -> None:
    coarse, fine = (miss(solver, predicts, log_spaced(n)) for n in (16, 32))
    # Weights are fp32, so errors near 1e-6 tell nothing of the order.
    assert fine > 2e-6
    assert np.log2(coarse / fine) > order - 0.3
    assert np.log2(coarse / fine) < order + 0.8


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun", "unipc"])
def test_runs_to_zero_noise_arrive(solver: sampler.Solver) -> None:
    for schedule in (
        sampler.karras(40, sigma_min=0.01, sigma_max=20.0),
        sampler.variance_preserving(80, last=0.0, first=0.98),
        sampler.rectified(80, first=0.98),
    ):
        assert schedule.sigma[-1] == 0.0
        assert miss(solver, "data", schedule) < (0.06 if solver == "ddim" else 0.03)


def test_straight_paths_need_few_steps_for_a_point() -> None:
    """All mass at one point: the flow is straight, so a single step is exact."""
    schedule = sampler.rectified(1)
    plan = sampler.plan("euler", schedule, predicts="flow")
    x = np.array([[0.3, -2.0]], np.float32)
    point = 0.25
    got = sampler.step(plan, sampler.fresh(x.shape), x, x - point)
    assert got == pytest.approx(np.full_like(x, point), abs=1e-6)


def test_consistency_steps_take_the_estimate_and_renoise(rng: np.random.Generator) -> None:
    schedule = sampler.variance_preserving(3)
    plan = sampler.plan("lcm", schedule, boundary=(0.0, 1.0))
    x, m, noise = (rng.standard_normal((2, 8)).astype(np.float32) for _ in range(3))
    got = sampler.step(plan, sampler.fresh(x.shape), x, m, noise=noise)
    data = (x - schedule.sigma[0] * m) / schedule.alpha[0]
    assert close("sampler", got, schedule.alpha[1] * data + schedule.sigma[1] * noise)


def test_consistency_steps_obey_their_boundary_condition() -> None:
    """Luo et al. 2023, equation 9: what is kept of the sample and what is taken of the estimate."""
    schedule, (spread, factor) = sampler.variance_preserving(3), (0.5, 10.0)
    plan = sampler.plan("lcm", schedule, predicts="data", boundary=(spread, factor))
    for i, row in enumerate(plan.weights[:, 0].astype(np.float64)):
        t = schedule.time[i] * factor
        kept, taken = spread**2 / (t**2 + spread**2), t / np.hypot(t, spread)
        assert row[0] == pytest.approx(schedule.alpha[i + 1] * kept, rel=1e-6)
        assert row[1] == pytest.approx(schedule.alpha[i + 1] * taken, rel=1e-6)
        assert row[5] == pytest.approx(schedule.sigma[i + 1], rel=1e-6)


def test_the_schedule_of_a_diffusion_is_its_integral() -> None:
    """``d log alpha / dt = -beta(t) / 2``, summed by the midpoint rule; the variance is kept."""
    low, high = 0.1, 20.0
    schedule = sampler.variance_preserving(10, beta=(low, high))
    middle = (np.arange(100_000) + 0.5) / 100_000
    beta = low + middle * (high - low)
    for t, alpha, sigma in zip(schedule.time, schedule.alpha, schedule.sigma, strict=True):
        assert np.log(alpha) == pytest.approx(-0.5 * beta[middle < t].sum() / 1e5, abs=1e-9)
        assert alpha**2 + sigma**2 == pytest.approx(1.0)


def test_karras_nodes_run_from_end_to_end_evenly_in_a_root() -> None:
    schedule = sampler.karras(9, sigma_min=0.01, sigma_max=50.0, rho=5.0)
    assert schedule.sigma[0] == pytest.approx(50.0)
    assert schedule.sigma[-2] == pytest.approx(0.01)
    assert schedule.sigma[-1] == 0.0
    steps = np.diff(schedule.sigma[:-1] ** (1 / 5.0))
    np.testing.assert_allclose(steps, steps[0])


def test_stochastic_ddim_keeps_the_spread() -> None:
    rng = np.random.default_rng(5)
    schedule = sampler.variance_preserving(200, last=0.001)
    plan = sampler.plan("ddim", schedule, predicts="data", eta=1.0)
    x = schedule.alpha[0] * MEAN + width(
        schedule.alpha[0], schedule.sigma[0]
    ) * rng.standard_normal(4000)
    x = x.astype(np.float32)
    state = sampler.fresh(x.shape)
    for call in range(plan.calls):
        m = speak("data", x, plan.alpha[call], plan.sigma[call]).astype(np.float32)
        x = sampler.step(plan, state, x, m, noise=rng.standard_normal(4000).astype(np.float32))
    assert x.mean() == pytest.approx(MEAN, abs=0.03)
    assert x.std() == pytest.approx(SPREAD, abs=0.03)


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "unipc", "heun", "euler"])
@pytest.mark.parametrize("shape", [(37,), (3, 5, 7), (2, 64)])
def test_steps_equal_the_weights(
    solver: sampler.Solver, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    plan = sampler.plan(solver, log_spaced(5))
    state = sampler.fresh(shape)
    x = rng.standard_normal(shape).astype(np.float32)
    want = x.astype(np.float64)
    h1 = h2 = last = np.zeros(shape)
    for call in range(plan.calls):
        m, u = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        mixed = u + 3.0 * (m.astype(np.float64) - u)
        rows = [
            sum(float(w) * c for w, c in zip(row, (want, mixed, h1, h2, last), strict=False))
            for row in plan.weights[call]
        ]
        out = np.full(shape, np.nan, np.float32)
        x = sampler.step(plan, state, x, m, unconditional=u, guidance=3.0, out=out)
        want = np.asarray(rows[0])
        if plan.weights[call, 1].any():
            h1, h2 = np.asarray(rows[1]), h1
        if plan.weights[call, 2].any():
            last = np.asarray(rows[2])
        assert np.abs(x - want).max() < 2e-5 * np.abs(want).max()
    with pytest.raises(RangeError, match="the sample is finished"):
        sampler.step(plan, state, x, x)


def test_bad_input_is_named() -> None:
    schedule = sampler.variance_preserving(4)
    plan = sampler.plan("lcm", schedule)
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(RangeError, match="adds noise"):
        sampler.step(plan, sampler.fresh(x.shape), x, x)
    with pytest.raises(RangeError, match="guidance is 2"):
        sampler.step(plan, sampler.fresh(x.shape), x, x, guidance=2.0, noise=x)
    with pytest.raises(ShapeError, match="model has shape"):
        sampler.step(plan, sampler.fresh(x.shape), x, np.zeros((2, 4), np.float32), noise=x)
    with pytest.raises(ShapeError, match="out overlaps x"):
        sampler.step(plan, sampler.fresh(x.shape), x, x.copy(), noise=x.copy(), out=x)
    with pytest.raises(RangeError, match="alpha is 0"):
        sampler.plan("ddim", sampler.rectified(4), predicts="noise")
    with pytest.raises(RangeError, match="steps is 0"):
        sampler.karras(0)
    with pytest.raises(RangeError, match="eta is 1"):
        sampler.plan("heun", schedule, eta=1.0)
