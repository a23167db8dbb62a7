"""A running task goes over to another model, and says from which sample on.

What the old model has begun is brought to its end as if the stream ended there: tails come out,
open captions are closed, and audio out is as long as audio in. The new one starts with the next
sample: tracks stay aligned, captions go on being numbered, and nothing is heard twice or left out.
Only the memory across that sample is lost, which is why it is said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ossicle.runtime.errors import OssicleError
from ossicle.streaming.session.branch import Branch
from ossicle.streaming.session.line import Line
from ossicle.streaming.session.seam import Lease

Reopen = Callable[[Branch, str], Lease]  # a branch and the bundle that shall do it from now on


async def swap(line: Line, branch: Branch, reopen: Reopen) -> None:
    """Let ``branch.wanted`` do the task from the next sample on; nothing is pushed meanwhile.

    Raises:
        OssicleError: neither that model nor the one before can be had any more.
    """
    wanted, why, old = branch.wanted, branch.why, branch.opened
    branch.leaving = asyncio.Event()
    old.flush()
    await branch.leaving.wait()
    branch.leaving = None
    if line.over:
        return
    old.close()
    before, branch.wanted, branch.rung = branch.now, "", 0
    new = _reopened(branch, wanted, before, reopen)
    branch.lease = new
    line.inlet.replace(old, new)
    branch.outlet.begin_anew()
    branch.outlet.interval_ms = branch.interval_ms
    sample = line.inlet.position
    line.notice(
        "LADDER",
        f"{why}: {branch.now} instead of {before} from sample {sample} on; captions that were "
        "open are closed, the model's memory starts anew",
        {"model": branch.now, "before": before, "sample": str(sample)},
        branch.spec.track,
    )


def _reopened(branch: Branch, wanted: str, before: str, reopen: Reopen) -> Lease:
    branch.now = wanted
    try:
        return reopen(branch, wanted)
    except OssicleError:
        branch.now = before
        return reopen(branch, before)
