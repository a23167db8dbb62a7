from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

from ossicle.export.models.tagger import Tagger  # noqa: E402
from ossicle.export.recipes import tagger_resume as resume  # noqa: E402
from ossicle.export.recipes.tagger_listen import scores_by, scores_of  # noqa: E402
from ossicle.export.recipes.tagger_pupils import Pupils, Shards  # noqa: E402
from ossicle.export.recipes.tagger_step import features  # noqa: E402
from ossicle.export.recipes.tagger_teacher import PATCH, log_mel  # noqa: E402
from ossicle.runtime.bundle import Bundle, find_bundle  # noqa: E402
from ossicle.runtime.errors import ExportError  # noqa: E402
from ossicle.runtime.scene import alarms, everyday  # noqa: E402
from ossicle.runtime.scene.labels import LABELS  # noqa: E402

SCENES = 4


def shipped(name: str) -> Bundle:
    return Bundle.open(find_bundle(name))


@pytest.fixture(scope="module")
def shards() -> Shards:
    """Sounds of two seconds and a bit, and a view of them by nobody."""
    rng = np.random.default_rng(0)
    sounds = [alarms.synthesise(name, rng, 2.5) for name in ("siren", "smoke_alarm")]
    sounds += [everyday.synthesise(name, rng, 2.5) for name in ("rain", "glass")]
    mels = []
    for sound in sounds:
        mel = log_mel(np.resize(sound.samples, 34_000))
        mels.append(np.concatenate([mel, mel])[: 2 * PATCH])
    assert len(mels) == SCENES
    return Shards(
        np.stack(mels).astype(np.float16),
        np.zeros((SCENES, 2 * PATCH // 4, len(LABELS)), np.uint8),
        rng.standard_normal((SCENES, 2, 1024)).astype(np.float16),
    )


@pytest.fixture(scope="module")
def pupils(shards: Shards) -> Pupils:
    return resume.resume(shipped("sounds-16k"), shipped("sounds-16k-tiny"), shards)


@pytest.fixture(scope="module")
def small(shards: Shards) -> Tagger:
    return resume.resume_small(shipped("sounds-16k-tiny"), shards)


def test_the_larger_tier_hears_what_the_shipped_one_hears(pupils: Pupils, shards: Shards) -> None:
    """To the last digit."""
    mels = list(shards.mel)
    made = np.stack(scores_of(pupils.eval(), mels)["full"])
    wanted = np.stack(scores_by(shipped("sounds-16k"), mels)["tiny"])
    assert np.abs(made - wanted).mean() < 1e-6
    assert wanted.max() > 0.5


def test_the_smaller_tier_hears_what_the_shipped_one_hears(small: Tagger, shards: Shards) -> None:
    """But for its activations of eight bits; its trunk is not the larger one's."""
    mel = torch.from_numpy(shards.mel.astype(np.float32))
    with torch.no_grad():
        made = small(mel, *small.fresh(len(mel)))[0].numpy()
    wanted = np.stack(scores_by(shipped("sounds-16k-tiny"), list(shards.mel))["tiny"])
    assert np.abs(made - wanted).mean() < 0.05
    assert wanted.max() > 0.5


def test_training_begins_where_the_shipped_one_ended(pupils: Pupils, shards: Shards) -> None:
    """A batch has the statistics that the batch norms were given, so nothing moves."""
    mel = torch.from_numpy(shards.mel.astype(np.float32))
    with torch.no_grad():
        outs = features(pupils.trunk, mel)
        still = pupils.eval().heads(mel, outs)
        moving = pupils.train().heads(mel, outs)
    pupils.eval()
    for a, b in zip(still, moving, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3)


def test_so_does_training_of_the_smaller_alone(small: Tagger, shards: Shards) -> None:
    mel = torch.from_numpy(shards.mel.astype(np.float32))
    with torch.no_grad():
        still = small.eval()(mel, *small.fresh(len(mel)))[0]
        moving = small.train()(mel, *small.fresh(len(mel)))[0]
    small.eval()
    torch.testing.assert_close(still, moving, atol=2e-3, rtol=1e-3)


def test_the_view_is_the_least_squares_map() -> None:
    rng = torch.Generator().manual_seed(1)
    body = torch.randn(6, 5, 40, generator=rng)
    true = torch.randn(1024, 5, generator=rng)
    view = (true @ body + 0.3).transpose(1, 2)
    layer = torch.nn.Conv1d(5, 1024, 1)
    resume.fit(layer, body, view)
    torch.testing.assert_close(layer(body).transpose(1, 2), view, atol=0.05, rtol=0.01)


def test_what_is_no_tagger_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no tagger"):
        resume.layers_of(shipped("separate-16k"))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1]) for name in ("x", "w")
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1])
    for inputs, wrong in ((["x", "w"], "weight w is no constant"), (["x", "k"], "constant bias")):
        node = helper.make_node("Conv", inputs, ["y"])
        held = onnx.numpy_helper.from_array(np.ones((1, 1, 1), np.float32), "k")
        graph = helper.make_graph([node], "g", ports, [out], [held])
        with pytest.raises(ExportError, match=wrong):
            resume.convolutions(helper.make_model(graph).SerializeToString())
