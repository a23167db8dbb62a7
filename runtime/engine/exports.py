"""A slot's whole memory as a tree, and a slot from such a tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ossicle.runtime.engine.batch import send_home
from ossicle.runtime.engine.slot import Slot
from ossicle.runtime.errors import SnapshotError


def export_slot(slot: Slot) -> dict[str, Any]:
    """Return everything a stream is, for a snapshot; nothing may wait in its inbox."""
    send_home(slot)
    return {
        "kind": slot.task.kind,
        "model": slot.model.name,
        "version": slot.model.manifest.version,
        "program": slot.task.program,
        "task": slot.state,
        "memory": slot.model.export_row(slot.memory, 0),
        "unset": sorted(slot.memory.unset),
        "ready": slot.waiting_hops(),
        "ending": slot.ending,
        "hops": slot.hops,
    }


def restore_slot(slot: Slot, tree: Mapping[str, Any], now_ns: int) -> None:
    """Make a fresh slot go on where the exported one stood.

    Raises:
        SnapshotError: the tree is of another task, model, version or program.
    """
    wanted = {
        "kind": slot.task.kind,
        "model": slot.model.name,
        "version": slot.model.manifest.version,
        "program": slot.task.program,
    }
    found = {key: tree.get(key) for key in wanted}
    if found != wanted:
        raise SnapshotError(f"snapshot of {found}; the stream runs {wanted}. Open a new stream")
    slot.state = tree["task"]
    slot.model.import_row(slot.memory, 0, tree["memory"])
    slot.memory.unset = set(tree["unset"])
    slot.ending, slot.hops = tree["ending"], tree["hops"]
    for hop in tree["ready"]:
        slot.add(hop, now_ns, now_ns, now_ns + slot.deadline_ns)
