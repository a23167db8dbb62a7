"""What an operator may turn on an engine, with the meaning of each number."""

from __future__ import annotations

from dataclasses import dataclass

from ossicle.runtime.errors import BudgetError


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits and thresholds; the defaults suit two CPU cores."""

    max_streams: int = 64  # slots; one task of one client each
    max_batch: int = 32  # rows in one run of a model
    max_load: float = 0.75  # share of the engine's thread that may be promised
    inbox_ms: float = 2_000.0  # audio that may wait for the engine, per stream
    batching: str = "compact"  # or "masked": step idle rows too and put their memory back
    compiled: bool = True  # use the compiled part where there is one; for tests of its twin
    calibration_runs: int = 25
    around_us: float = 0.0  # what a hop costs this interpreter outside the engine: a transport
    hold_ms: float = 0.25  # Python in one go, then other threads may; a started engine's
    gather_ms: float = 0.0  # waited for more streams to be ready, where no promise is near it
    ladder_high: float = 0.90  # measured load above which streams step down
    ladder_low: float = 0.60  # and below which they step up again
    ladder_window_ms: float = 250.0
    ladder_up_windows: int = 2  # windows above the high mark before a step down
    ladder_down_windows: int = 12  # windows below the low mark before a step up

    def __post_init__(self) -> None:
        if not 1 <= self.max_streams <= 65_536 or not 1 <= self.max_batch <= 4096:
            raise BudgetError(
                f"max_streams {self.max_streams}, max_batch {self.max_batch}; "
                "1 to 65536 and 1 to 4096 expected"
            )
        if not 0 < self.max_load <= 1:
            raise BudgetError(f"max_load {self.max_load}; more than 0 and at most 1 expected")
        if self.batching not in ("compact", "masked"):
            raise BudgetError(f"batching {self.batching!r}; compact or masked expected")
        if not 0 <= self.around_us <= 1e6 or not 0 <= self.gather_ms <= 1000:
            raise BudgetError(
                f"around_us {self.around_us}, gather_ms {self.gather_ms}; 0 to a second expected"
            )
        if not 0 <= self.hold_ms <= 1000:
            raise BudgetError(f"hold_ms {self.hold_ms}; 0 to a second expected")
        if not 0 < self.ladder_low < self.ladder_high:
            raise BudgetError("ladder_low must lie above 0 and below ladder_high")
