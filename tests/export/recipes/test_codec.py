"""The codec's networks and training parts: streamed equals whole, causal, and they do learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from ossicle.export.models.codec import CodecShape, Decoder, Encoder, macs_per_second  # noqa: E402
from ossicle.export.recipes.common import augment, losses  # noqa: E402
from ossicle.export.recipes.common.corpus import HOP, Pool, read_corpus  # noqa: E402
from ossicle.export.recipes.common.loop import Progress, Schedule, train  # noqa: E402
from ossicle.export.recipes.common.quantiser import ResidualBooks, nearest  # noqa: E402

SHAPE = CodecShape()


def network(kind: type) -> torch.nn.Module:
    torch.manual_seed(1)
    return kind(SHAPE).eval()


def inputs(kind: type, hops: int) -> torch.Tensor:
    torch.manual_seed(2)
    if kind is Encoder:
        return torch.randn(2, 1, hops * HOP) * 0.1
    return torch.randn(2, hops, SHAPE.latent)


def piece(kind: type, x: torch.Tensor, first: int, last: int) -> torch.Tensor:
    return x[:, :, first * HOP : last * HOP] if kind is Encoder else x[:, first:last]


@pytest.mark.parametrize("kind", [Encoder, Decoder])
@settings(max_examples=8, deadline=None)
@given(cuts=st.sets(st.integers(1, 79), max_size=6))
def test_any_cut_into_hops_gives_what_the_whole_gives(kind: type, cuts: set[int]) -> None:
    net, x = network(kind), inputs(kind, 80)
    with torch.no_grad():
        want, end = net(x, net.initial(2))
        states, parts = net.initial(2), []
        for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), 80], strict=True):
            out, states = net(piece(kind, x, first, last), states)
            parts.append(out)
    axis = 1 if kind is Encoder else 2
    torch.testing.assert_close(torch.cat(parts, axis), want, atol=3e-5, rtol=1e-4)
    for have, wanted in zip(states, end, strict=True):
        torch.testing.assert_close(have, wanted, atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_the_future_is_not_heard(kind: type) -> None:
    net, x = network(kind), inputs(kind, 20)
    changed = x.clone()
    piece(kind, changed, 12, 20).normal_()
    with torch.no_grad():
        a, _ = net(x, net.initial(2))
        b, _ = net(changed, net.initial(2))
    a, b = (v if kind is Encoder else v.reshape(2, 20, -1) for v in (a, b))
    assert torch.equal(a[:, :12], b[:, :12])
    assert not torch.equal(a[:, 12:], b[:, 12:])


def test_rows_do_not_mix() -> None:
    net, x = network(Decoder), inputs(Decoder, 6)
    with torch.no_grad():
        both, _ = net(x, net.initial(2))
        one, _ = net(x[1:], net.initial(1))
    torch.testing.assert_close(both[1:], one, atol=1e-6, rtol=1e-5)


def test_cost_and_memory_are_as_promised() -> None:
    for kind in (Encoder, Decoder):
        net = network(kind)
        assert 80e6 < macs_per_second(net) < 120e6
        assert sum(s.numel() for s in net.initial(1)) * 4 < 60_000


def test_nearest_is_the_nearest_and_the_first_of_equals() -> None:
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(3))
    book = torch.randn(32, 8, generator=torch.Generator().manual_seed(4))
    assert torch.equal(nearest(x, book), torch.cdist(x, book).argmin(dim=1))
    twice = torch.cat([book[:1], book])
    assert nearest(book[:1], twice).item() == 0


def test_each_layer_of_fitted_books_leaves_less() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(800, 8, generator=generator)
    books = ResidualBooks(4, 32, 8)
    books.fit(x, generator)
    _, rests = books.encode(x)
    power = rests.square().mean(dim=(1, 2))
    assert bool((power[1:] < power[:-1]).all())
    half = books.partial(x[None], rests, torch.tensor([2]))
    torch.testing.assert_close(half[0], x - rests[2])


def test_books_of_sums_are_sums_and_leave_little_more_than_free_ones() -> None:
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(4000, 12, generator=generator)
    sums, free = ResidualBooks(4, 64, 12), ResidualBooks(4, 64, 12)
    sums.fit_sums(x, generator, outer=4)
    free.fit(x, generator)
    parts = sums.books[1:].reshape(3, 4, 16, 12)  # row j I + i is a_i + b_j
    mean = parts.mean(dim=(1, 2), keepdim=True)
    again = parts.mean(dim=1, keepdim=True) + parts.mean(dim=2, keepdim=True) - mean
    torch.testing.assert_close(again.expand_as(parts), parts, atol=1e-5, rtol=0)
    new = torch.randn(4000, 12, generator=generator)  # free rows learn some vectors by heart
    power = [books.encode(new)[1].square().mean(dim=(1, 2)) for books in (sums, free)]
    assert bool((power[0][1:] < 0.9 * power[0][:-1]).all())
    assert float(power[0][-1]) < 1.15 * float(power[1][-1])


def test_envelope_distance_is_what_intelligibility_lacks() -> None:
    pystoi = pytest.importorskip("pystoi")
    rng = np.random.default_rng(9)
    sway = np.repeat(rng.uniform(0.02, 1, 40), 800)  # a level of its own every 50 ms
    x = rng.standard_normal(32000) * np.interp(np.arange(32000), np.arange(40) * 800, sway[::800])
    noise = rng.standard_normal(32000)
    for level in (0.0, 0.1, 0.3, 1.0):
        y = x + level * noise
        a, b = (torch.from_numpy(0.1 * v[None]).float() for v in (x, y))
        lack = 1 - pystoi.stoi(x, y, 16000)
        assert float(losses.envelope_distance(a, b)) == pytest.approx(lack, abs=0.06)
    quiet = torch.zeros(1, 3000, requires_grad=True)
    losses.envelope_distance(torch.zeros(1, 3000), quiet).backward()
    assert quiet.grad is not None
    assert bool(torch.isfinite(quiet.grad).all())


def test_learning_moves_books_towards_new_vectors() -> None:
    generator = torch.Generator().manual_seed(6)
    books = ResidualBooks(2, 16, 4, decay=0.9)
    books.fit(torch.randn(400, 4, generator=generator), generator)
    moved = torch.randn(400, 4, generator=generator) + 2.0

    def left() -> float:
        return float(books.encode(moved)[1][-1].square().mean())

    before = left()
    for _ in range(30):
        books.learn(*books.encode(moved), generator)
    assert left() < 0.8 * before


@pytest.mark.parametrize("name", ["wave", "loud", "mel"])
def test_losses_grow_with_the_noise_and_vanish_without(name: str) -> None:
    generator = torch.Generator().manual_seed(7)
    time = torch.arange(16000) / 16000
    x = (torch.sin(2 * torch.pi * 220 * time) * 0.2)[None]
    noise = torch.randn(1, 16000, generator=generator)
    measure = {
        "wave": losses.wave_distance,
        "loud": losses.loudness_distance,
        "mel": lambda a, b: losses.log_mel_distance(a, b, 512, 64),
    }[name]
    values = [float(measure(x, x + noise * level)) for level in (0.0, 0.001, 0.01, 0.1)]
    assert values == sorted(values)
    assert values[3] > values[1] + 0.3
    if name != "wave":
        assert values[0] < 0.01


def test_losses_have_finite_gradients_on_silence() -> None:
    y = torch.zeros(1, 8000, requires_grad=True)
    x = torch.zeros(1, 8000)
    mel, phase = losses.spectral_distances(x, y, 512, 256, 64)
    total = mel + phase + losses.wave_distance(x, y) + losses.loudness_distance(x, y)
    total.backward()
    assert y.grad is not None
    assert bool(torch.isfinite(y.grad).all())


def test_a_folder_is_read_once_and_padded_to_hops(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "voices"
    folder.mkdir()
    soundfile.write(folder / "a.flac", np.linspace(-0.5, 0.5, 1000, dtype=np.float32), 16000)
    soundfile.write(folder / "b.wav", np.zeros(320, np.float32), 16000)
    corpus = read_corpus(folder, tmp_path / "cache")
    assert [(c.path, c.start, c.length) for c in corpus.clips] == [
        ("a.flac", 0, 1280),
        ("b.wav", 1280, 320),
    ]
    np.testing.assert_allclose(
        corpus.audio(corpus.clips[0])[[0, 999, 1279]], [-0.5, 0.5, 0], atol=1e-4
    )
    again = read_corpus(folder, tmp_path / "cache")
    np.testing.assert_array_equal(again.pcm, corpus.pcm)
    soundfile.write(folder / "c.wav", np.zeros(320, np.float32), 8000)
    with pytest.raises(ValueError, match="8000 Hz"):
        read_corpus(folder, tmp_path / "cache")


def test_crops_are_a_function_of_the_seed_and_never_clip() -> None:
    rng = np.random.default_rng(8)
    pools = [Pool(name, rng.integers(-32768, 32767, 64000).astype(np.int16), 1.0) for name in "ab"]
    a, which = augment.draw(pools, 16, 4 * HOP, np.random.default_rng(1))
    b, _ = augment.draw(pools, 16, 4 * HOP, np.random.default_rng(1))
    np.testing.assert_array_equal(a, b)
    assert float(np.abs(a).max()) <= 1.0
    assert set(which.tolist()) == {0, 1}
    faster = augment.at_speed(pools[0].pcm, 1.25)
    assert len(faster) % HOP == 0
    assert abs(len(faster) - 64000 / 1.25) < 2 * HOP


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(1))


def line_loss(net: Line) -> object:
    def loss(rng: np.random.Generator, progress: Progress) -> tuple[torch.Tensor, dict]:
        x = torch.from_numpy(rng.standard_normal(8).astype(np.float32))
        error = (net.slope * x - 3 * x).square().mean()
        return error, {"error": error}

    return loss


def test_training_learns_logs_and_resumes(tmp_path: Path) -> None:
    net = Line()
    plan = Schedule(0.01, 0.05, warm_steps=5, log_every=5, check_minutes=0.004)
    first = train(net, line_loss(net), plan, tmp_path, check=lambda p: {"slope": net.slope.item()})
    assert abs(net.slope.item() - 3) < 0.5
    assert (tmp_path / "log.png").exists()
    other = Line()
    longer = Schedule(0.015, 0.05, warm_steps=5, log_every=5)
    second = train(other, line_loss(other), longer, tmp_path, resume=True)
    assert second.step > first.step
    assert second.spent >= first.spent
    assert abs(other.slope.item() - 3) < 0.5
