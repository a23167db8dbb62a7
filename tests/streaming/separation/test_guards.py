from __future__ import annotations

import numpy as np
import pytest
from separationtoys import tones

from ossicle.runtime.model import Model
from ossicle.streaming.separation.guards import GuardedModel, Shadow, scrub_output


def test_outputs_that_are_not_sound_are_replaced_by_the_dry_signal() -> None:
    dry = np.full((1, 8), 0.5, np.float32)
    fine = np.full((1, 8), 0.25, np.float32)
    assert scrub_output(fine, dry) == (fine, True)
    for bad in (np.nan, np.inf, -np.inf, 1e9):
        wet = fine.copy()
        wet[0, 3] = bad
        got, sound = scrub_output(wet, dry)
        assert not sound
        assert got is dry


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_samples_never_reach_the_memory(separator: Model, bad: float) -> None:
    guarded = GuardedModel(separator)
    state = guarded.open()
    x = tones(0.4).reshape(-1, 1, 1, 128)
    for index, hop in enumerate(x):
        hop = hop.copy()
        if index == 10:
            hop[0, 0, 5] = bad
        out = guarded.step(state, {"audio": hop})
        assert out is not None
        assert all(np.isfinite(a).all() for a in out.values())
    assert state.scrubbed == 1
    assert state.rollbacks == 0


def test_a_poisoned_memory_goes_back_to_where_it_was_sound(separator: Model) -> None:
    guarded, twin = GuardedModel(separator), GuardedModel(separator)
    state, other = guarded.open(), twin.open()
    hops = tones(0.32).reshape(-1, 1, 1, 128)[:30]
    for hop in hops[:15]:
        guarded.step(state, {"audio": hop})
        twin.step(other, {"audio": hop})
    poisoned = {
        key: np.full_like(a, np.nan) if a.dtype.kind == "f" else a for key, a in state.good.items()
    }
    separator.import_row(state.memory, 0, poisoned)
    assert guarded.step(state, {"audio": hops[15]}) is None
    assert state.rollbacks == 1
    for hop in hops[16:]:
        a, b = guarded.step(state, {"audio": hop}), twin.step(other, {"audio": hop})
        assert a is not None
        assert b is not None
        np.testing.assert_array_equal(a["separated"], b["separated"])


def test_a_reset_is_unheard_and_fades_in() -> None:
    shadow = Shadow(hops=3, fade_hops=2)
    state = shadow.open()
    dry, wet = np.zeros((1, 64), np.float32), np.ones((1, 64), np.float32)
    np.testing.assert_array_equal(shadow.mix(state, dry, wet), wet)
    shadow.restart(state)
    heard = np.concatenate([shadow.mix(state, dry, wet) for _ in range(7)], axis=1)[0]
    assert not heard[: 3 * 64].any()
    assert np.all(np.diff(heard) >= 0)
    assert np.abs(np.diff(heard)).max() < 0.02
    assert heard[-1] == 1.0
    assert state.resets == 1
