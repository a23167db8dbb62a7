"""A latent weighed by what is heard: the networks' function stays, only distances change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from ossicle.export.models.codec_layers import Taps  # noqa: E402
from ossicle.export.recipes.codec import Codec, thinned  # noqa: E402
from ossicle.export.recipes.codec_curve import joined, table  # noqa: E402
from ossicle.export.recipes.codec_weigh import Weighed, fold, sensitivity  # noqa: E402
from ossicle.export.recipes.common import augment  # noqa: E402
from ossicle.export.recipes.common.corpus import HOP, Clip, Corpus, Pool  # noqa: E402
from ossicle.export.recipes.common.loop import Progress  # noqa: E402


@pytest.fixture
def codec() -> Codec:
    torch.manual_seed(3)
    made = Codec()
    made.books.books.normal_(generator=torch.Generator().manual_seed(4))
    return made.eval()


@pytest.fixture
def pools() -> list[Pool]:
    rng = np.random.default_rng(5)
    time = np.arange(200 * HOP) / 16000
    tone = 4000 * np.sin(2 * np.pi * 200 * time) * (np.sin(2 * np.pi * 3 * time) > 0)
    return [Pool("tone", (tone + rng.normal(0, 100, len(time))).astype(np.int16), 1.0)]


def test_folding_a_metric_changes_distances_and_nothing_else(codec: Codec) -> None:
    rng = torch.Generator().manual_seed(6)
    root = torch.randn(64, 64, generator=rng)
    audio = torch.randn(2, 20 * HOP, generator=rng) * 0.1
    with torch.no_grad():
        before = codec.encode(audio)
        heard = codec.decode(before)
        matrix = fold(codec, root @ root.T).float()
        after = codec.encode(audio)
        torch.testing.assert_close(after, before @ matrix, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(codec.decode(after), heard, atol=1e-4, rtol=1e-3)
    value, vector = torch.linalg.eigh((root @ root.T).double())
    wanted = vector @ torch.diag(value / value.mean() + 0.1) @ vector.T
    squared = matrix.double() @ matrix.double().T
    torch.testing.assert_close(squared / squared.trace(), wanted / wanted.trace())


def test_sensitivity_is_largest_where_the_decoder_listens(codec: Codec, pools: list[Pool]) -> None:
    with torch.no_grad():
        weight = codec.decoder.enter.linear.weight.reshape(256, 3, 64)
        weight[:, :, 32:] *= 0.05
        codec.decoder.enter.linear.weight.copy_(weight.reshape(256, -1))
    fisher = sensitivity(codec, pools, np.random.default_rng(7), batches=1)
    assert fisher.shape == (64, 64)
    torch.testing.assert_close(fisher, fisher.T)
    power = fisher.diagonal()
    assert float(power[:32].mean()) > 20 * float(power[32:].mean()) > 0


def test_the_last_part_teaches_the_decoder_alone(codec: Codec, pools: list[Pool]) -> None:
    loss = Weighed(codec, pools)
    value, terms = loss(np.random.default_rng(8), Progress())
    value.backward()
    assert {"low loud", "high wave"} <= set(terms)
    assert all(p.grad is None for p in codec.encoder.parameters())
    assert all(bool(torch.isfinite(p.grad).all()) for p in codec.decoder.parameters())
    again, _ = loss(np.random.default_rng(8), Progress())
    assert torch.equal(again.detach(), value.detach())


def test_the_filter_has_the_gradient_of_the_plain_sum() -> None:
    rng = torch.Generator().manual_seed(9)
    seen = torch.randn(2, 90, 5, generator=rng, dtype=torch.double, requires_grad=True)
    taps = torch.randn(4, 5, generator=rng, dtype=torch.double, requires_grad=True)
    plain = sum(seen[:, 3 * i : 3 * i + 81] * taps[i] for i in range(4))
    torch.testing.assert_close(Taps.apply(seen, taps, 3), plain)
    assert torch.autograd.gradcheck(lambda a, b: Taps.apply(a, b, 3), (seen, taps))


def test_crops_below_a_level_are_drawn_again() -> None:
    half = np.concatenate([np.zeros(50 * HOP), np.full(50 * HOP, 8000)]).astype(np.int16)
    pools = [Pool("half", half, 1.0)]
    free, _ = augment.draw(pools, 64, 4 * HOP, np.random.default_rng(1))
    loud, _ = augment.draw(pools, 64, 4 * HOP, np.random.default_rng(1), least_rms=4e-3)
    quiet = [sum(augment.rms(x) < 4e-3 for x in crops) for crops in (free, loud)]
    assert quiet[0] > 10
    assert quiet[1] < 5


def test_colour_moves_bands_and_keeps_full_scale() -> None:
    x = np.random.default_rng(2).normal(0, 0.2, (40, 8 * HOP)).clip(-0.9, 0.9).astype(np.float32)
    y = augment.coloured(x, np.random.default_rng(3))
    assert y.dtype == np.float32
    assert float(np.abs(y).max()) <= 1.0
    same = sum(np.allclose(a, b, atol=1e-5) for a, b in zip(x, y, strict=True))
    assert 5 < same < 30


def test_a_short_run_hears_a_share_of_every_corpus() -> None:
    pcm = np.zeros(100 * HOP, np.int16)
    parts = [
        (Corpus("a", (), pcm), [Clip(str(i), i * HOP, HOP) for i in range(100)]),
        (Corpus("b", (), pcm), [Clip(str(i), i * 10 * HOP, 10 * HOP) for i in range(10)]),
    ]
    some = thinned(parts, 100 * HOP / 16000, np.random.default_rng(0))
    assert [len(clips) for _, clips in some] == [50, 5]
    assert thinned(parts, 1e9, np.random.default_rng(0)) == parts


def test_the_curve_counts_minutes_on(tmp_path: Path) -> None:
    rows = [{"pesq_1.5": 1.1, "stoi_1.5": 0.7, "pesq_3": 1.2, "stoi_3": 0.8, "pesq_6": 1.4,
             "stoi_6": 0.85, "minutes": m, "step": 1} for m in (0.0, 2.0)]  # fmt: skip
    for name in ("a", "b"):
        (tmp_path / name).write_text("\n".join(json.dumps(r) for r in [*rows, {"minutes": 2.1}]))
    whole = joined([tmp_path / "a", tmp_path / "b"])
    assert [r["minutes"] for r in whole] == [0.0, 2.0, 2.0, 4.0]
    assert "| 4.0 | 1.10 / 0.700 | 1.20 / 0.800 | 1.40 / 0.850 |" in table(whole)


def test_a_card_holds_every_measured_table(tmp_path: Path) -> None:
    from ossicle.export.recipes.codec_card import card_files

    row = {"kbps": 6.0, "gain_pesq": 0.31}
    row |= {k: {"pesq_wb": v, "stoi": 0.9} for k, v in
            (("no loss", 2.5), ("layers", 1.8), ("redundancy", 2.11))}  # fmt: skip
    frames = {f"{k}_frames after {n} lost": n + 10 for k in ("quiet", "identical") for n in (1, 5)}
    result = {"pieces": 6, "seconds": 8.0, "loss": 0.1, "burst": 1.5, "delay_frames": 2,
              "models": {"codec-16k": {"rows": [row], "resync": frames}}}  # fmt: skip
    (tmp_path / "lost.json").write_text(json.dumps({"results": result}))
    (tmp_path / "quality.md").write_text("# Title\n\n| a table |\n")
    (tmp_path / "curve.md").write_text("| a curve |\n")
    (tmp_path / "curve.png").write_bytes(b"png")
    (tmp_path / "card.md").write_text("{version}\n{table}\n{curve}\n{loss}\n")
    made = card_files(
        tmp_path / "card.md", "9.9", tmp_path / "quality.json", tmp_path / "lost.json", tmp_path
    )
    text = made["README.md"].decode()
    assert text.startswith("9.9\n| a table |\n| a curve |\n")
    assert "| 6 | 2.50 / 0.900 | 1.80 / 0.900 | 2.11 / 0.900 | +0.31 |" in text
    assert "after 5 lost within -60 dB in 15 and the same to the bit in 15" in text
    assert made["curve.png"] == b"png"
