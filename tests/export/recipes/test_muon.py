"""The optimiser: matrices go along orthogonal steps, the rest goes as Adam would."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ossicle.export.recipes.common.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 40, 16), (1, 8, 32)])
def test_a_step_has_no_favourite_direction(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    lengths = torch.linalg.svdvals(orthogonal(torch.randn(shape) @ torch.randn(shape[2], shape[2])))
    assert float(lengths.max()) < 1.4
    assert float(lengths.median()) > 0.6


def test_biases_and_named_matrices_go_as_adam_would() -> None:
    torch.manual_seed(1)
    net = nn.ModuleDict({"film": nn.Linear(6, 6), "enter": nn.Linear(6, 6)})
    twin = copy.deepcopy(net)
    one = Muon(net.named_parameters(), lr=1e-2, plain=("film",))
    two = torch.optim.Adam(twin.parameters(), lr=1e-2, betas=(0.9, 0.98))
    for _ in range(4):
        for model, optimiser in ((net, one), (twin, two)):
            x = torch.linspace(-1, 1, 12).view(2, 6)
            optimiser.zero_grad()
            (model["film"](x).square().sum() + model["enter"].bias.square().sum()).backward()
            optimiser.step()
    torch.testing.assert_close(net["film"].weight, twin["film"].weight)
    torch.testing.assert_close(net["enter"].bias, twin["enter"].bias)


def test_the_gates_of_an_lstm_are_turned_one_by_one() -> None:
    torch.manual_seed(2)
    net = nn.LSTM(8, 8)
    before = net.weight_hh_l0.detach().clone()
    optimiser = Muon(net.named_parameters(), lr=0.1, weight_decay=0.0)
    net(torch.randn(5, 8))[0].square().sum().backward()
    optimiser.step()
    moved = (net.weight_hh_l0.detach() - before).view(4, 8, 8) / (0.1 * 0.2 * 8**0.5)
    longest = torch.linalg.svdvals(moved).amax(-1)
    assert (longest < 1.4).all()
    assert (longest > 0.6).all()  # however small that gate's gradient is beside the others'


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(3)
    net = nn.Linear(6, 4)
    x = torch.randn(7, 6)

    def step(model: nn.Linear, optimiser: Muon) -> None:
        optimiser.zero_grad()
        model(x).square().sum().backward()
        optimiser.step()

    one = Muon(net.named_parameters(), lr=1e-2)
    step(net, one)
    twin = copy.deepcopy(net)
    two = Muon(twin.named_parameters(), lr=1e-2)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for model, optimiser in ((net, one), (twin, two)):
        step(model, optimiser)
    torch.testing.assert_close(net.weight, twin.weight)
    torch.testing.assert_close(net.bias, twin.bias)
