"""What courses of the sound taggers are tried with."""

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """What a course is asked for: a small bank, two scenes a step, a model of random weights."""
    torch = pytest.importorskip("torch")
    from ossicle.export.recipes import tagger_bank as bank
    from ossicle.export.recipes.tagger_pupils import Pupils
    from ossicle.export.recipes.tagger_refine import options
    from ossicle.runtime.scene import alarms
    from ossicle.runtime.scene.alarms import ALARMS
    from ossicle.runtime.scene.labels import LABELS
    from ossicle.runtime.scene.sound import Sound

    place = tmp_path_factory.mktemp("course")
    rng = np.random.default_rng(0)
    items = []
    for label in (*LABELS, bank.UNKNOWN):
        sound = alarms.synthesise("siren" if label not in ALARMS else label, rng, 4.0)
        item = bank.item_of(replace(sound, label=label))
        assert item is not None
        items.append(item)
    hiss = rng.standard_normal(160_000).astype(np.float32) / 8
    bed = bank.item_of(Sound(bank.BED, hiss, ((0, len(hiss)),)))
    assert bed is not None
    (place / "bank").mkdir()
    bank.save(place / "bank" / "bank.npz", [*items, bed])
    np.savez(
        place / "shard00000.npz",
        mel=rng.standard_normal((3, 1000, 64)).astype(np.float16) - 4,
        truth=np.eye(3, 20, dtype=np.uint8)[:, None].repeat(250, 1),
        embedding=rng.standard_normal((3, 10, 1024)).astype(np.float16),
    )
    torch.manual_seed(0)
    torch.save(Pupils().state_dict(), place / "start.pt")
    parser = options(None)
    parser.set_defaults(rate=4e-4, rendered=1, float32=True, batch=2)
    words = f"--bank {place}/bank --shards {place} --val {place} --start {place / 'start.pt'}"
    return parser.parse_args([*words.split(), "--out", str(place / "out")])
