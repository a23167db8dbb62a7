"""Solvers as tables: every step is one linear combination with weights known beforehand.

A *call* is one evaluation of the model. Its weights are rows over six columns:

    x      the sample that the model saw
    m      what the model said
    h1, h2 what the two calls before kept
    last   the sample that the call before set aside
    noise  fresh standard noise

and give the next sample, what is kept, and what is set aside. Nothing else is computed while
sampling, so a whole run can be captured in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ossicle.kernels.errors import RangeError
from ossicle.kernels.sampler.schedule import Schedule

F64 = NDArray[np.float64]
Solver = Literal["ddim", "dpmpp_2m", "unipc", "heun", "euler", "lcm"]
Predicts = Literal["noise", "data", "v", "flow"]

X, M, H1, H2, LAST, NOISE = np.eye(6)
COLUMNS: Final = ("x", "m", "h1", "h2", "last", "noise")
ROWS: Final = ("next", "keep", "set_aside")


@dataclass(frozen=True, slots=True)
class Mix:
    """What one call computes: only the rows and columns that are not all zero."""

    columns: tuple[str, ...]
    rows: tuple[str, ...]  # the first of ROWS, as many as are used
    weights: NDArray[np.float32]  # [rows, columns]

    def guided(self, guidance: float) -> Mix:
        """``m`` replaced by ``guidance * m + (1 - guidance) * u``; itself where ``m`` is unused."""
        if "m" not in self.columns:
            return self
        at = self.columns.index("m")
        scaled = self.weights.copy()
        scaled[:, at] *= np.float32(guidance)
        rest = self.weights[:, at : at + 1] * np.float32(1.0 - guidance)
        return Mix((*self.columns, "u"), self.rows, np.concatenate([scaled, rest], 1))


def _mix(weights: NDArray[np.float32]) -> Mix:
    count = 3 if weights[2].any() else 2 if weights[1].any() else 1
    columns = np.flatnonzero(weights[:count].any(0))
    kept = np.ascontiguousarray(weights[:count, columns])
    return Mix(tuple(COLUMNS[c] for c in columns), ROWS[:count], kept)


@dataclass(frozen=True, slots=True)
class Plan:
    """All weights of one sampling run."""

    solver: Solver
    time: F64  # [calls] what the model is told
    alpha: F64  # [calls]
    sigma: F64  # [calls]
    weights: NDArray[np.float32]  # [calls, 3, 6]: ROWS by COLUMNS
    mixes: tuple[Mix, ...] = field(init=False, repr=False)  # the same, by call, without the zeros

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixes", tuple(_mix(rows) for rows in self.weights))

    @property
    def calls(self) -> int:
        """Evaluations of the model."""
        return len(self.time)

    def uses(self, call: int, column: str) -> bool:
        """Whether a call reads that column at all."""
        return bool(self.weights[call, :, COLUMNS.index(column)].any())


def _data(predicts: Predicts, alpha: float, sigma: float) -> F64:
    """The data estimate as weights of x and m."""
    if predicts == "data":
        return M
    if predicts == "noise":
        return np.asarray((X - sigma * M) / alpha)
    if predicts == "v":  # v = alpha noise - sigma data (Salimans and Ho 2022)
        return np.asarray((alpha * X - sigma * M) / (alpha**2 + sigma**2))
    return np.asarray((X - sigma * M) / (alpha + sigma))  # flow = noise - data


def _log_snr(s: Schedule) -> F64:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(s.alpha) - np.log(s.sigma))


def plan(
    solver: Solver,
    schedule: Schedule,
    *,
    predicts: Predicts = "noise",
    eta: float = 0.0,
    boundary: tuple[float, float] = (0.5, 10.0),
) -> Plan:
    """The weights of a solver on a schedule.

    Args:
        solver: ``"ddim"`` (Song et al. 2020), ``"dpmpp_2m"`` (Lu et al. 2022, algorithm 2),
            ``"unipc"`` (Zhao et al. 2023, order 2, B2), ``"heun"`` (Karras et al. 2022, algorithm
            1, no churn), ``"euler"`` (rectified flow), ``"lcm"`` (Luo et al. 2023, multistep
            consistency).
        schedule: nodes from noise to data.
        predicts: what the model says: noise, data, v, or flow (noise minus data).
        eta: share of fresh noise, DDIM only.
        boundary: LCM only: ``sigma_data`` and the factor on the time in its boundary condition.

    Raises:
        RangeError: the names are unknown, or the schedule starts where ``predicts`` divides by 0.
    """
    makers = {
        "ddim": _ddim, "dpmpp_2m": _dpmpp, "unipc": _unipc, "heun": _heun, "euler": _euler,
        "lcm": _lcm,
    }  # fmt: skip
    if solver not in makers or predicts not in ("noise", "data", "v", "flow"):
        raise RangeError(f"solver {solver!r} with predicts {predicts!r} is unknown; see plan()")
    if not 0.0 <= eta <= 1.0 or (eta > 0.0 and solver != "ddim"):
        raise RangeError(f"eta is {eta}; it must be 0 to 1, and 0 except for DDIM")
    usable = (schedule.sigma[:-1] > 0.0).all() and (
        predicts != "noise" or (schedule.alpha[:-1] > 0).all()
    )
    if not usable:
        raise RangeError(
            "sigma is 0 before the last node, or alpha is 0 where the model predicts noise: "
            "start a little later or let the model predict data, v or flow"
        )
    if solver in ("dpmpp_2m", "unipc") and schedule.alpha[0] <= 0.0:
        raise RangeError(f"alpha is 0 at the first node; {solver} needs a finite log SNR there")
    estimates = [
        _data(predicts, a, s)
        for a, s in zip(schedule.alpha, schedule.sigma, strict=True)
        if s > 0.0
    ]
    at, rows = makers[solver](schedule, estimates, eta, boundary)
    weights = np.stack([np.stack(r) for r in rows]).astype(np.float32)
    return Plan(solver, schedule.time[at], schedule.alpha[at], schedule.sigma[at], weights)


Rows = list[tuple[F64, F64, F64]]
NOTHING: Final = np.zeros(6)


def _ddim(
    s: Schedule, data: list[F64], eta: float, boundary: tuple[float, float]
) -> tuple[list[int], Rows]:
    rows: Rows = []
    for i in range(s.steps):
        a, b, sa, sb = s.alpha[i], s.alpha[i + 1], s.sigma[i], s.sigma[i + 1]
        noise = (X - a * data[i]) / sa
        fresh = eta * sb / sa * np.sqrt(max(0.0, 1.0 - (a / b) ** 2))
        rows.append(
            (
                b * data[i] + np.sqrt(max(0.0, sb**2 - fresh**2)) * noise + fresh * NOISE,
                NOTHING,
                NOTHING,
            )
        )
    return list(range(s.steps)), rows


def _euler(
    s: Schedule, data: list[F64], eta: float, boundary: tuple[float, float]
) -> tuple[list[int], Rows]:
    """Straight on along the path of the schedule: noise minus data where alpha + sigma = 1."""
    rows: Rows = []
    for i in range(s.steps):
        noise = (X - s.alpha[i] * data[i]) / s.sigma[i]
        slope_a = s.alpha[i + 1] - s.alpha[i]
        slope_s = s.sigma[i + 1] - s.sigma[i]
        rows.append((X + slope_a * data[i] + slope_s * noise, NOTHING, NOTHING))
    return list(range(s.steps)), rows


def _dpmpp(
    s: Schedule, data: list[F64], eta: float, boundary: tuple[float, float]
) -> tuple[list[int], Rows]:
    lam, rows = _log_snr(s), Rows()
    for i in range(s.steps):
        h = lam[i + 1] - lam[i]
        estimate = data[i]
        if i > 0 and s.sigma[i + 1] > 0.0:  # the last step to sigma 0 is of first order
            ratio = 0.5 * h / (lam[i] - lam[i - 1])
            estimate = (1.0 + ratio) * data[i] - ratio * H1
        following = s.sigma[i + 1] / s.sigma[i] * X - s.alpha[i + 1] * np.expm1(-h) * estimate
        rows.append((following, data[i], NOTHING))
    return list(range(s.steps)), rows


def _unipc(
    s: Schedule, data: list[F64], eta: float, boundary: tuple[float, float]
) -> tuple[list[int], Rows]:
    lam, rows = _log_snr(s), Rows()
    for i in range(s.steps):
        x = X
        if i > 0:  # correct the sample with what the model says of it
            before = (H2, lam[i - 2]) if i > 1 else None
            x = _unipc_move(s, lam, i - 1, LAST, H1, before, data[i])
        before = (H1, lam[i - 1]) if i > 0 and s.sigma[i + 1] > 0.0 else None
        rows.append((_unipc_move(s, lam, i, x, data[i], before, None), data[i], x))
    return list(range(s.steps)), rows


def _unipc_move(
    s: Schedule,
    lam: F64,
    i: int,
    x: F64,
    now: F64,
    before: tuple[F64, float] | None,
    then: F64 | None,
) -> F64:
    """From node ``i`` to the next: the predictor, or with ``then`` the corrector."""
    h = lam[i + 1] - lam[i]
    phi1 = np.expm1(-h)  # which is also B(h)
    moved = s.sigma[i + 1] / s.sigma[i] * x - s.alpha[i + 1] * phi1 * now
    change = NOTHING
    if before is not None:
        r = (before[1] - lam[i]) / h
        slope = (before[0] - now) / r
        if then is None:
            change = 0.5 * slope
        else:
            phi2 = phi1 / -h - 1.0
            phi3 = phi2 / -h - 0.5
            rho = np.linalg.solve(
                np.array([[1.0, 1.0], [r, 1.0]]), np.array([phi2, 2.0 * phi3]) / phi1
            )
            change = rho[0] * slope + rho[1] * (then - now)
    elif then is not None:
        change = 0.5 * (then - now)
    return np.asarray(moved - s.alpha[i + 1] * phi1 * change)


def _heun(
    s: Schedule, data: list[F64], eta: float, boundary: tuple[float, float]
) -> tuple[list[int], Rows]:
    """In ``x / alpha`` over ``sigma / alpha``, so that it serves every schedule."""
    at: list[int] = []
    rows: Rows = []
    for i in range(s.steps):
        a, b = s.alpha[i], s.alpha[i + 1]
        now, then = s.sigma[i] / a, s.sigma[i + 1] / b
        slope = (X / a - data[i]) / now
        at.append(i)
        rows.append((b * (X / a + (then - now) * slope), slope, X / a))
        if s.sigma[i + 1] > 0.0:
            again = (X / b - data[i + 1]) / then
            at.append(i + 1)
            rows.append((b * (LAST + 0.5 * (then - now) * (H1 + again)), NOTHING, NOTHING))
    return at, rows


def _lcm(
    s: Schedule, data: list[F64], eta: float, boundary: tuple[float, float]
) -> tuple[list[int], Rows]:
    sigma_data, factor = boundary
    rows: Rows = []
    for i in range(s.steps):
        t = s.time[i] * factor
        skip = sigma_data**2 / (t**2 + sigma_data**2)
        estimate = skip * X + t / np.sqrt(t**2 + sigma_data**2) * data[i]
        rows.append((s.alpha[i + 1] * estimate + s.sigma[i + 1] * NOISE, NOTHING, NOTHING))
    return list(range(s.steps)), rows
