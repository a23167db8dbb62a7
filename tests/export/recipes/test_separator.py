from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.export.models.separator import (
    Head,
    Separator,
    SeparatorConfig,
    Trunk,
    lapped_windows,
)
from ossicle.export.recipes import separator
from ossicle.export.recipes.separator_bundle import export
from ossicle.export.recipes.separator_data import (
    GROUPS,
    LABELS,
    Pools,
    coloured_noise,
    files_of,
)
from ossicle.export.recipes.separator_loss import active, loss_of, separate
from ossicle.export.recipes.separator_query import QueryWeights, accuracy, train_queries
from ossicle.export.recipes.separator_scenes import Batch, Scenes, Shelf
from ossicle.export.recipes.separator_train import Training, rate_at, train, widened
from ossicle.runtime.conformance import verify
from ossicle.runtime.model import Model

SMALL = SeparatorConfig(trunk=24, head=16, labels=len(LABELS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of audio with a little of everything, laid out like the real one."""
    root = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)

    def put(name: str, seconds: float = 3.0) -> None:
        place = root / "train" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        sf.write(place, 0.1 * rng.standard_normal(round(seconds * 16_000)), 16_000)

    for index in range(20):
        put(f"speech_picovoice_sti/{index}.flac")
    put("speech_picovoice_wakeword/alexa/a.flac", 1.0)
    put("speech_picovoice_wakeword/snowboy/a.flac", 1.0)
    for number in range(1, 11):
        for fold in "14":
            put(f"env_esc10_f1-4/{number:03d}_-_x/{fold}-1.flac")
    for song in ("Track00049", "Track01501"):
        put(f"music_slakh/train/{song}/stems/S00.flac")
    for stem in ("bd_808", "bass_hard_c", "guit_em9", "ambi_choir", "drum_roll", "elec_beep"):
        put(f"music_sonic_pi/{stem}.flac")
    put("ir_web_audio/room.flac", 0.5)
    return root


@pytest.fixture(scope="module")
def pools(folder: Path) -> Pools:
    return Pools(folder, length=7_680, speeds=(1.0,), alarms=1)


@pytest.mark.parametrize(
    ("n_fft", "hop", "latency"), [(512, 128, 160), (512, 256, 512), (512, 80, 160), (320, 64, 128)]
)
def test_the_windows_give_the_signal_back(n_fft: int, hop: int, latency: int) -> None:
    analysis, synthesis = lapped_windows(n_fft, hop, latency)
    assert (len(analysis), len(synthesis)) == (n_fft, latency)
    net = Separator(SeparatorConfig(hop=hop, n_fft=n_fft, latency=latency, trunk=4, head=4))
    x = torch.sin(torch.arange(hop * 40) * 0.3)[None]
    spectra = net.spectra(x)
    parts = torch.cat((spectra.real[..., 1:], spectra.imag[..., 1:]), -1)
    y = net.overlap_add(parts @ net.synthesis_matrix())
    late = latency - hop
    torch.testing.assert_close(y[:, late + n_fft :], x[:, n_fft:-late], atol=2e-2, rtol=0)


def test_windows_that_cannot_be_are_refused() -> None:
    for latency in (128, 300, 600):
        with pytest.raises(ValueError, match="latency"):
            lapped_windows(512, 128, latency)


@pytest.mark.parametrize("latency", [160, 256])
def test_streamed_equals_whole(latency: int) -> None:
    config = SeparatorConfig(trunk=24, head=16, labels=5, latency=latency)
    torch.manual_seed(0)
    net = Separator(config).eval()
    net.norm_mean.normal_()
    torch.nn.init.normal_(net.gate.weight)
    x = 0.1 * torch.randn(2, config.hop * 30)
    query = torch.rand(2, 3, 5)
    spectra = net.spectra(x)
    with torch.no_grad():
        gain, turn = net.masks(spectra, query)
        trunk, head = Trunk(net), Head(net, 3)
        level, h, c = torch.zeros(2, 2), torch.zeros(2, 24), torch.zeros(2, 24)
        h2, c2 = torch.zeros(2, 3, 16), torch.zeros(2, 3, 16)
        blend = torch.tensor([0.0, 1.0]).expand(2, 3, 2)
        for t in range(30):
            spectrum = torch.view_as_real(spectra[:, t])[:, :, None]
            heard, level, h, c = trunk(spectrum, level, h, c)
            *outs, h2, c2 = head(heard, spectrum, query, blend, h2, c2)
            for q, out in enumerate(outs):
                mask = gain[:, q, t].to(torch.complex64)
                mask[:, : config.rotated] += 1j * turn[:, q, t]
                whole = spectra[:, t, 1:] * mask
                streamed = torch.view_as_complex(out[:, :, 0].contiguous())[:, 1:]
                torch.testing.assert_close(streamed, whole, atol=1e-4, rtol=1e-3)
                assert not out[:, 0].any()  # DC


@given(st.floats(-40, 20))
@settings(max_examples=10)
def test_masks_do_not_depend_on_level(gain_db: float) -> None:
    torch.manual_seed(1)
    net = Separator(SMALL).eval()
    x = 0.05 * torch.randn(1, 128 * 20)
    query = torch.zeros(1, 1, len(LABELS))
    with torch.no_grad():
        a, _ = net.masks(net.spectra(x), query)
        b, _ = net.masks(net.spectra(x * 10 ** (gain_db / 20)), query)
    torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def test_nothing_depends_on_the_future() -> None:
    torch.manual_seed(2)
    net = Separator(SMALL).eval()
    x = 0.1 * torch.randn(1, 128 * 24)
    y = x.clone()
    y[:, 128 * 12 :] += 1.0
    query = torch.ones(1, 2, len(LABELS))
    with torch.no_grad():
        a, b = (net.estimate(net.spectra(z), query)[0] for z in (x, y))
    torch.testing.assert_close(a[..., : 128 * 12], b[..., : 128 * 12])
    assert (a[..., 128 * 12 :] - b[..., 128 * 12 :]).abs().max() > 1e-3


def test_the_network_is_as_small_as_promised() -> None:
    assert SeparatorConfig(labels=len(LABELS)).macs_per_second() <= 60e6
    held = sum(p.numel() for p in Separator(SeparatorConfig()).parameters())
    assert held < 600_000


def test_held_out_files_are_never_trained_on(folder: Path) -> None:
    taught, aside = files_of(folder, held_out=False), files_of(folder, held_out=True)
    for label in LABELS:
        assert not set(taught[label]) & set(aside[label])
    assert all(path.name.startswith("4") for path in aside["rain"])
    assert aside["piano"]
    assert not any("Track01501" in str(p) for paths in taught.values() for p in paths)
    assert any("snowboy" in str(p) for p in aside["speech"])


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_targets_are_what_the_mixture_is_made_of(pools: Pools, seed: int) -> None:
    scenes = Scenes(Shelf(pools), queries=3)
    batch = scenes.batch(np.random.default_rng(seed), 4)
    again = scenes.batch(np.random.default_rng(seed), 4)
    torch.testing.assert_close(batch.target, again.target)
    assert batch.mixture.shape == (4, pools.length)
    assert float(batch.mixture.abs().max()) < 1.01
    assert torch.isfinite(batch.mixture).all()
    every = torch.ones_like(batch.query)
    whole = (batch.query == every).all(-1)
    for b, q in torch.nonzero(whole).tolist():
        torch.testing.assert_close(batch.target[b, q], batch.mixture[b], atol=1e-3, rtol=0)
    # the third query names nobody who is there, now and then a group
    assert (batch.query.sum(-1) >= 1).all()


def test_noise_and_rooms_are_finite(pools: Pools) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        noise = coloured_noise(rng, 4000)
        assert np.isfinite(noise).all()
        assert np.square(noise).mean() > 1e-4
        room = pools.room(rng, 2000)
        assert room.shape == (2000,)
        np.testing.assert_allclose(np.square(room).sum(), 1.0, rtol=1e-3)


def test_pools_are_kept_and_found_again(folder: Path, tmp_path: Path) -> None:
    one = Pools(folder, length=7_680, speeds=(1.0,), alarms=1, cache=tmp_path)
    two = Pools(folder, length=7_680, speeds=(1.0,), alarms=1, cache=tmp_path)
    a, b = (p.draw("speech", np.random.default_rng(3)) for p in (one, two))
    np.testing.assert_array_equal(a, b)


def test_a_few_steps_learn_something(pools: Pools, tmp_path: Path) -> None:
    run = Training(SMALL, tmp_path, seed=0, device="cpu")
    batch = Scenes(Shelf(pools)).batch(np.random.default_rng(0), 4)
    run.settle_features(batch)
    losses = [run.advance(batch, 5e-3)["loss"] for _ in range(12)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.2
    estimate = separate(run.net, batch.mixture, batch.query)
    assert estimate.shape == (4, 2, pools.length - 32)
    with torch.no_grad():
        loss, parts = loss_of(run.net, batch)
    assert np.isfinite(float(loss))
    assert set(parts) == {"present_db", "absent_db", "presence"}


def test_a_closed_gate_is_silence_and_an_open_one_changes_nothing() -> None:
    torch.manual_seed(3)
    net = Separator(SMALL).eval()
    spectra, query = net.spectra(0.1 * torch.randn(1, 128 * 12)), torch.ones(1, 1, len(LABELS))
    with torch.no_grad():
        net.gate.bias.fill_(40.0)
        whole, _ = net.masks(spectra, query)
        net.gate.bias.zero_()
        half, _ = net.masks(spectra, query)
        net.gate.bias.fill_(-40.0)
        silent, there = net.estimate(spectra, query)
    torch.testing.assert_close(half, 0.5 * whole)
    assert float(silent.abs().max()) < 1e-9
    assert there.shape == (1, 1, 12)


def test_the_gate_is_told_where_what_was_asked_for_sounds() -> None:
    net = Separator(SMALL)
    target = torch.zeros(1, 2, 128 * 10)
    target[0, 0, 128 * 4 : 128 * 6] = 0.1
    batch = Batch(torch.zeros(1, 128 * 10), torch.zeros(1, 2, len(LABELS)), target)
    told = active(net, batch, torch.tensor([[True, False]]))
    assert told[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert not told[0, 1].any()


def test_a_wider_network_begins_as_the_narrow_one_was(tmp_path: Path) -> None:
    torch.manual_seed(4)
    narrow = Training(SMALL, tmp_path / "narrow", 0, "cpu")
    narrow.save()
    wide = Training(replace(SMALL, trunk=40, head=24), tmp_path / "wide", 1, "cpu")
    wide.begin_from(narrow.place)
    spectra = narrow.net.spectra(0.1 * torch.randn(1, 128 * 10))
    query = torch.rand(1, 2, len(LABELS))
    with torch.no_grad():
        a, _ = narrow.net.masks(spectra, query)
        b, _ = wide.net.masks(spectra, query)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    grown = widened(torch.ones(4), torch.full((6,), 9.0), 2)
    assert grown.tolist() == [1, 1, 9, 1, 1, 9]


def test_a_shelf_takes_sources_that_were_heard_before(pools: Pools) -> None:
    rng = np.random.default_rng(5)
    shelf = Shelf(pools, reuse=1.0, spare=2)
    first = shelf.take(["rain", "rain"], rng)
    again = shelf.take(["rain"] * 6, rng)
    for row in again:
        assert any(torch.equal(row, old) for old in first)
    fresh = Shelf(pools)
    fresh.take(["rain", "rain"], rng)
    assert not fresh.kept


def test_a_run_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    settings_ = {
        "minutes": 60.0,
        "size": 2,
        "seed": 3,
        "cache": tmp_path / "cache",
        "alarms": 1,
        "pairs": 2,
    }
    first = train(folder, tmp_path / "run", SMALL, steps=2, **settings_)  # type: ignore[arg-type]
    assert first.step == 2
    again = train(folder, tmp_path / "run", SMALL, steps=3, **settings_)  # type: ignore[arg-type]
    assert again.step == 3
    assert len(again.history) == 2
    net = separator.load(tmp_path / "run" / "last.pt")
    assert separator.history_of(tmp_path / "run" / "last.pt") == again.history
    for a, b in zip(net.parameters(), again.smooth.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    other = Training(SMALL, tmp_path / "other", 0, "cpu")
    other.begin_from(tmp_path / "run" / "last.pt")
    torch.testing.assert_close(other.net.enter.weight, net.enter.weight)


def test_the_rate_warms_up_and_falls() -> None:
    rates = [rate_at(done, 1.0) for done in np.linspace(0, 1, 101)]
    assert rates[0] < 0.1
    assert max(rates) > 0.95
    assert rates[-1] < 0.02
    assert rate_at(2.0, 1.0) == pytest.approx(rates[-1])


@pytest.fixture(scope="module")
def queries() -> QueryWeights:
    return train_queries(steps=120)


def test_queries_are_learned(queries: QueryWeights) -> None:
    assert set(queries.intents) == set(LABELS) | set(GROUPS)
    pairs = [
        ("dogs barking", "dog_bark"),
        ("the speech", "speech"),
        ("elephant", "unknown"),
        ("loud rain", "rain"),
        ("carbon monoxide alarm", "co_alarm"),
        ("table", "unknown"),
    ]
    assert accuracy(queries, pairs) == 1.0


@pytest.mark.slow
def test_an_exported_bundle_keeps_the_laws(queries: QueryWeights, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bundle = export(Separator(SMALL).eval(), tmp_path / "small", "small", queries)
    report = verify(bundle)
    assert report.ok, report.first_broken
    model = Model.load(bundle)
    silent = np.zeros((1, 1, 128), np.float32)
    state = model.open()
    for _ in range(3):
        assert np.isfinite(model.step(state, {"audio": silent})["separated"]).all()


def test_the_first_query_of_a_mixture_counts_most(pools: Pools) -> None:
    torch.manual_seed(6)
    net = Separator(SMALL)
    batch = Scenes(Shelf(pools), speech_share=1.0).batch(np.random.default_rng(2), 4)
    query = batch.query[:, :1].expand(-1, 2, -1)
    losses = []
    for wrong in (0, 1):
        target = batch.mixture[:, None].repeat(1, 2, 1)
        target[:, wrong] *= -1.0  # the worst that can be asked of a mask
        loss, _ = loss_of(net, Batch(batch.mixture, query, target))
        losses.append(float(loss.detach()))
    assert losses[0] > losses[1] + 0.1
