from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ossicle.export.recipes.separator_data import LABELS
from ossicle.export.recipes.separator_scenes import Batch
from ossicle.export.recipes.separator_teacher import Teacher
from ossicle.runtime.bundle import find_bundle
from ossicle.runtime.errors import ExportError
from tests.toys import write_stft


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """An enhancer that leaves everything, a window late."""
    write_stft(tmp_path / "identity")
    return tmp_path / "identity"


def batch() -> Batch:
    """Four mixtures: speech asked alone, with more, absent, and not asked for."""
    generator = torch.Generator().manual_seed(0)
    mixture = 0.1 * torch.randn(4, 5000, generator=generator)
    query = torch.zeros(4, 2, len(LABELS))
    query[0, 0, LABELS.index("speech")] = 1
    query[1, 1, [LABELS.index("speech"), LABELS.index("rain")]] = 1
    query[2, 1, LABELS.index("speech")] = 1
    query[3, 0, LABELS.index("rain")] = 1
    target = 0.1 * torch.randn(4, 2, 5000, generator=generator)
    target[2, 1] = 0.0
    return Batch(mixture, query, target)


def test_its_answer_is_in_place(identity: Path) -> None:
    mixture = batch().mixture
    heard = Teacher(identity).speech(mixture)
    assert heard.shape == mixture.shape
    torch.testing.assert_close(heard, mixture, atol=1e-5, rtol=0)


def test_it_shares_in_answers_for_speech_that_is_there_alone(
    identity: Path,
) -> None:
    plain = batch()
    blended = Teacher(identity, share=0.25).blend(plain)
    wanted = plain.target.clone()
    wanted[0, 0] = 0.75 * plain.target[0, 0] + 0.25 * plain.mixture[0]
    torch.testing.assert_close(blended.target, wanted, atol=1e-5, rtol=0)
    assert torch.equal(blended.mixture, plain.mixture)
    assert torch.equal(blended.query, plain.query)


def test_with_nobody_asked_for_nothing_changes(identity: Path) -> None:
    plain = batch()
    rest = Batch(plain.mixture[3:], plain.query[3:], plain.target[3:])
    assert Teacher(identity).blend(rest) is rest


def test_what_cannot_teach_is_refused(identity: Path) -> None:
    with pytest.raises(ExportError, match="cannot teach"):
        Teacher(find_bundle("separate-16k"))
    with pytest.raises(ExportError, match="from 0 to 1"):
        Teacher(identity, share=1.5)


def test_public_enhancers_can_teach(weights: Path, tmp_path: Path) -> None:
    from ossicle.export.importers import import_model

    import_model("gtcrn", weights / "gtcrn", tmp_path / "gtcrn")
    rng = np.random.default_rng(0)
    noise = torch.from_numpy((0.05 * rng.standard_normal((2, 16_000))).astype(np.float32))
    teacher = Teacher(tmp_path / "gtcrn")
    heard = teacher.speech(noise)
    assert float(heard.square().mean()) < 0.1 * float(noise.square().mean())
    assert "MIT" in teacher.source
