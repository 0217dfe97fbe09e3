from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.models.backbones.convnet import ConvNet
from tune.models.heads.linear import LinearHead
from tune.models.heads.mlp import MlpHead
from tune.models.init import Init, refuse_equal_units

SHAPES = {"linear": ((400, 300), 300, 400), "convolution": ((200, 30, 3, 3), 270, 1800)}


def drawn(kind: str, shape, **keys) -> torch.Tensor:
    torch.manual_seed(0)
    layer = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], shape[2])
    Init(kind, **keys).backbone(layer)
    assert layer.bias is not None
    assert not layer.bias.any()
    return layer.weight.detach()


@pytest.mark.parametrize("name", SHAPES)
def test_spread_and_bounds_are_those_of_the_formulas(name):
    shape, inputs, outputs = SHAPES[name]
    uniform, xavier = drawn("uniform", shape), drawn("xavier", shape)
    assert uniform.abs().max() <= 1 / math.sqrt(inputs)
    assert_close(uniform.std().item(), 1 / math.sqrt(3 * inputs), rtol=0.02, atol=0)
    assert xavier.abs().max() <= math.sqrt(6 / (inputs + outputs))
    assert_close(xavier.std().item(), math.sqrt(2 / (inputs + outputs)), rtol=0.02, atol=0)
    assert_close(drawn("he", shape).std().item(), math.sqrt(2 / inputs), rtol=0.02, atol=0)
    assert_close(drawn("normal", shape, std=0.3).std().item(), 0.3, rtol=0.02, atol=0)
    assert abs(drawn("he", shape).mean().item()) < 0.001


@pytest.mark.parametrize(
    ("kind", "keys", "within_one_sd"),
    [
        ("uniform", {}, 1 / math.sqrt(3)),
        ("xavier", {}, 1 / math.sqrt(3)),
        ("he", {}, math.erf(1 / math.sqrt(2))),
        ("normal", {"std": 0.3}, math.erf(1 / math.sqrt(2))),
    ],
)
def test_weights_are_spread_evenly_or_by_the_bell_as_promised(kind, keys, within_one_sd):
    weight = drawn(kind, (400, 300), **keys)
    found = (weight.abs() < weight.std()).double().mean().item()
    assert abs(found - within_one_sd) < 4 * math.sqrt(within_one_sd * (1 - within_one_sd) / weight.numel())


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (20, 8, 3, 3), (40, 2, 3, 3)])
def test_the_shorter_side_of_an_orthogonal_matrix_is_orthonormal(shape):
    weight = drawn("orthogonal", shape).flatten(1)  # a unit's kernel is its row
    weight = weight if len(weight) <= weight.shape[1] else weight.T
    assert_close(weight @ weight.T, torch.eye(len(weight)), rtol=0, atol=1e-5)


def test_own_is_what_the_layer_does_itself():
    torch.manual_seed(0)
    expected = nn.Conv2d(4, 6, 3)
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3)
    Init("own").backbone(layer)
    assert torch.equal(layer.weight, expected.weight)
    linear = LinearHead(500, 40).linear
    assert_close(linear.weight.std().item(), 0.01, rtol=0.02, atol=0)
    assert not linear.bias.any()


def test_he_keeps_the_size_of_what_passes_through_relu():
    torch.manual_seed(0)
    layers = [module for _ in range(20) for module in (nn.Linear(300, 300), nn.ReLU())]
    network = nn.Sequential(*layers)
    Init("he").backbone(network)
    values = torch.randn(200, 300)
    assert 0.5 < (network(values).square().mean() / values.square().mean()).item() < 2


def test_zeros_and_own_are_for_the_last_linear_layer_alone():
    head = MlpHead(6, 3, hidden=[5])
    hidden = next(layer for layer in head.hidden if isinstance(layer, nn.Linear))
    before, last = hidden.weight.detach().clone(), head.linear.weight.detach().clone()
    Init("own", last="zeros").head(head)
    assert torch.equal(hidden.weight, before)
    assert not head.linear.weight.any()
    head.linear.weight.data.copy_(last)
    Init("he", last="own").head(head)
    assert not torch.equal(hidden.weight, before)
    assert torch.equal(head.linear.weight, last)


def test_equal_units_are_refused_with_the_reason():
    head = MlpHead(6, 3, hidden=[5])
    refuse_equal_units(head)
    Init("normal", std=0.0).head(head)
    with pytest.raises(ConfigError, match=r"all 5 units of hidden.1 start with the same weights.*same gradient"):
        refuse_equal_units(head)
    linear = LinearHead(6, 3)
    Init("own", last="zeros").head(linear)
    refuse_equal_units(linear)  # a convex problem: zero is a good start


def test_units_that_start_equal_stay_equal():
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    for weight in network.parameters():
        nn.init.constant_(weight, 0.1)
    with pytest.raises(ConfigError):
        refuse_equal_units(network)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.randn(8, 4)), torch.randint(0, 2, (8,))).backward()
        optimizer.step()
    first = network[0]
    assert isinstance(first, nn.Linear)
    assert_close(first.weight, first.weight[:1].expand(5, 4))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"kind": "normal"}, "init.std: needs"),
        ({"kind": "he", "std": 1.0}, "no effect"),
        ({"last": "own"}, "no effect"),
    ],
)
def test_keys_without_effect_are_refused(keys, says):
    with pytest.raises(ConfigError, match=says):
        Init(**keys)


def gradients(**keys) -> tuple[float, float]:
    """Size of the gradient of the first and of the last convolution of twelve, by weight."""
    init = keys.pop("init")
    torch.manual_seed(0)
    backbone = ConvNet(depth=12, width=8, pool_every=3, **keys)
    init.backbone(backbone)
    head = LinearHead(backbone.feature_dim, 3)
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 3
    nn.functional.cross_entropy(head(backbone(images))[1], labels).backward()
    sizes = [weight.grad.square().mean().sqrt().item() for weight in backbone.parameters() if weight.ndim == 4]
    return sizes[0], sizes[-1]


def test_gradients_vanish_behind_sigmoids_and_small_weights_and_he_relu_and_norms_cure_them():
    first, last = gradients(activation="sigmoid", norm="none", init=Init("normal", std=0.01))
    assert first < 1e-4 * last
    first, last = gradients(activation="relu", norm="batch", init=Init("he"))
    assert first > 0.1 * last
