"""What each deployment target accepts: operator set version and operators.

``cpu`` is ONNX Runtime on a CPU. ``jetson6`` is TensorRT 10.3 as JetPack 6 ships it, which has no
ScatterND in the versions met there. ``modern`` is TensorRT 10.15 and later, or ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ossicle.export.operators import CPU, TENSORRT_10_3, TENSORRT_10_15
from ossicle.runtime.errors import ExportError

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True, slots=True)
class Profile:
    """A target's name, the opset asked for, the opsets accepted, and its operators."""

    name: str
    opset: int
    accepted: tuple[int, ...]
    operators: frozenset[str]
    target: str  # the manifest's word for it


PROFILES = {
    "cpu": Profile("cpu", 20, (20,), CPU, "cpu"),
    "jetson6": Profile("jetson6", 18, (17, 18), TENSORRT_10_3 - {"ScatterND"}, "trt10"),
    "modern": Profile("modern", 23, (23,), TENSORRT_10_15, "trt10"),
}


def profile_named(name: str) -> Profile:
    """Get a profile by name."""
    if name not in PROFILES:
        raise ExportError(f"profile {name!r} is not known; one of {', '.join(PROFILES)}")
    return PROFILES[name]


def check_operators(kinds: Iterable[str], profile: Profile, what: str) -> None:
    """Refuse control flow, and operators that ``profile`` does not run."""
    met = set(kinds)
    control = sorted(met & CONTROL_FLOW)
    if control:
        raise ExportError(
            f"{what} holds {', '.join(control)}: a step is a straight line; write the condition "
            "as arithmetic (torch.where) or fix it before export"
        )
    missing = sorted(met - profile.operators)
    if missing:
        raise ExportError(
            f"{what} needs {', '.join(missing)}, which profile {profile.name!r} does not run; "
            "do it on the host, or express it in other operators"
        )


def check_opset(version: int, profile: Profile, what: str) -> None:
    """Refuse a graph whose operator set is not one that ``profile`` accepts."""
    if version not in profile.accepted:
        allowed = " or ".join(str(v) for v in profile.accepted)
        raise ExportError(
            f"{what} came back with opset {version}; profile {profile.name!r} needs {allowed}"
        )
