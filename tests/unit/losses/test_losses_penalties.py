from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tune.losses.penalties import L1, L2


@pytest.fixture
def network() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    nn.init.normal_(net[1].weight)
    return net


def weights(network: nn.Module) -> list[float]:
    return [*network[0].weight.flatten().tolist(), *network[3].weight.flatten().tolist()]


def test_l1_sums_magnitudes_of_weights_without_biases_and_norms(network):
    assert_close(L1(0.1)(network).item(), 0.1 * sum(abs(w) for w in weights(network)), rtol=1e-5, atol=0)


def test_l2_sums_half_squares_of_weights_without_biases_and_norms(network):
    assert_close(L2(0.1)(network).item(), 0.05 * sum(w * w for w in weights(network)), rtol=1e-5, atol=0)


def test_frozen_weights_cost_nothing(network):
    network[0].requires_grad_(False)
    assert_close(L1(2.0)(network).item(), 2 * network[3].weight.abs().sum().item())


def test_penalty_of_a_network_without_trainable_weights_is_zero(network):
    network.requires_grad_(False)
    assert L1(1.0)(network) == 0
    assert L2(1.0)(network) == 0


def test_l2_under_sgd_is_weight_decay_of_the_same_strength(network):
    weight = network[3].weight
    before = weight.detach().clone()
    optimizer = torch.optim.SGD([weight], lr=0.5)
    L2(0.01)(network).backward()
    optimizer.step()
    assert_close(weight.detach(), before - 0.5 * 0.01 * before)
