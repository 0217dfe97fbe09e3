"""LeNet, AlexNet and the plain stack of convolutions, each layer against a loop or a second implementation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.models.activations import Maxout, activation_module
from tune.models.backbones.alexnet import AlexNet
from tune.models.backbones.convnet import ConvNet
from tune.models.backbones.lenet import LeNet
from tune.models.heads.cosine import CosineHead
from tune.models.heads.gaussian import GaussianHead
from tune.models.heads.mlp import MlpHead


def owned(backbone) -> None:
    """Every tensor is in exactly one layer."""
    names = [name for layer in backbone.layers.values() for name in layer]
    tensors = [name for name, _ in [*backbone.named_parameters(), *backbone.named_buffers()]]
    assert sorted(names) == sorted(tensors)


def test_lenet_has_the_layers_and_numbers_of_weights_of_the_paper():
    net = LeNet()
    owned(net)
    assert net.feature_dim == 84
    size = {layer: sum(p.numel() for p in net.get_submodule(layer).parameters()) for layer in net.layers}
    # Without the two further colours of C1, and with C3's connections alone: 156, 12, 1516, 32, 48120.
    assert size["c1"] - 2 * 6 * 25 == 156
    assert int(net.seen.sum()) * 25 + 16 == 1516
    assert (size["s2"], size["s4"], size["c5"], size["f6"]) == (12, 32, 48120, 10164)


def test_lenets_third_layer_sees_the_maps_of_the_table_alone():
    net = LeNet()
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    grad = net.c3.weight.grad
    assert grad is not None
    assert torch.equal(grad.abs().sum(dim=(2, 3)) > 0, net.seen[:, :, 0, 0] > 0)
    assert net.seen.sum(dim=(1, 2, 3)).tolist() == [3] * 6 + [4] * 9 + [6]


def test_subsampling_is_a_mean_times_a_weight_plus_a_bias():
    part = LeNet().s2
    nn.init.normal_(part.weight)
    nn.init.normal_(part.bias)
    maps = torch.randn(1, 6, 4, 4)
    for channel, i, j in itertools.product(range(6), range(2), range(2)):
        block = maps[0, channel, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
        assert_close(part(maps)[0, channel, i, j], block * part.weight[channel] + part.bias[channel])


def test_scaled_tanh_is_one_at_one():
    act = LeNet().act
    assert_close(act(torch.tensor([1.0, -1.0, 0.0])), torch.tensor([1.0, -1.0, 0.0]), rtol=0, atol=1e-4)


def test_alexnet_has_the_maps_and_the_sixty_million_weights_of_the_paper():
    net = AlexNet()
    owned(net)
    sizes = []
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        conv = net.get_submodule(f"{layer}.conv")
        conv.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
    assert net.eval()(torch.zeros(1, 3, 227, 227)).shape == (1, 4096)
    assert sizes == [(96, 55, 55), (256, 27, 27), (384, 13, 13), (384, 13, 13), (256, 13, 13)]
    total = sum(p.numel() for p in net.parameters()) + 4096 * 1000 + 1000
    assert total == 60_965_224  # "60 million parameters", with 1,000 classes
    weight = net.get_submodule("conv3.conv").weight
    assert_close(weight.std().item(), 0.01, rtol=0.02, atol=0)


def test_response_normalisation_is_equation_3_1():
    respond = AlexNet().get_submodule("conv1.respond")
    maps = torch.rand(1, 96, 1, 1) * 100
    for i in (0, 1, 50, 95):
        near = maps[0, max(0, i - 2) : i + 3, 0, 0]
        expected = maps[0, i, 0, 0] / (2 + 1e-4 * 5 * near.square().sum() / 5) ** 0.75
        assert_close(respond(maps)[0, i, 0, 0], expected)


@pytest.mark.parametrize("norm", ["batch", "layer", "instance", "group", "none"])
def test_each_norm_matches_a_loop_over_its_own_values(norm):
    torch.manual_seed(0)
    layer = ConvNet(depth=1, width=8, norm=norm).get_submodule("conv1.norm")
    maps = 3 + 2 * torch.randn(4, 8, 5, 5)
    expected = maps.clone()
    over = {
        "batch": [expected[:, c] for c in range(8)],
        "layer": list(expected),
        "instance": [expected[b, c] for b in range(4) for c in range(8)],
        "group": [expected[b, 2 * g : 2 * g + 2] for b in range(4) for g in range(4)],
        "none": [],
    }[norm]
    for part in over:
        values = part.flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        part.copy_((part - mean) / math.sqrt(variance + 1e-5))
    if norm != "none":
        scale, shift = torch.rand(8), torch.randn(8)
        layer.weight.data.copy_(scale)
        layer.bias.data.copy_(shift)
        expected = expected * scale.view(8, 1, 1) + shift.view(8, 1, 1)
    assert_close(layer(maps), expected, rtol=1e-4, atol=1e-4)
    if norm == "batch":  # one step of the running statistics, with the sample's variance
        mean, variance = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3))
        normed = (maps - 0.1 * mean.view(8, 1, 1)) / (0.9 + 0.1 * variance.view(8, 1, 1) + 1e-5).sqrt()
        assert_close(layer.eval()(maps), normed * scale.view(8, 1, 1) + shift.view(8, 1, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["max", "average", "lp", "conv"])
def test_each_pooling_matches_a_loop_over_blocks(pooling):
    torch.manual_seed(0)
    layer = ConvNet(depth=1, width=4, pooling=pooling, pool_every=1).get_submodule("conv1.pool")
    maps = torch.rand(2, 4, 6, 6)
    found = layer(maps)
    for b, c, i, j in itertools.product(range(2), range(4), range(3), range(3)):
        block = maps[b, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().tolist()
        if pooling == "conv":
            whole = maps[b, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            expected = ((layer.weight[c] * whole).sum() + layer.bias[c]).item()
        else:
            expected = {
                "max": max(block),
                "average": sum(block) / 4,
                "lp": math.sqrt(sum(value**2 for value in block)),
            }[pooling]
        assert_close(found[b, c, i, j].item(), expected, rtol=1e-5, atol=1e-5)


def test_convnet_takes_each_of_its_keys():
    images = torch.rand(2, 3, 32, 32)
    shapes = {
        "average": ConvNet(depth=4, width=8)(images).shape,
        "flatten": ConvNet(depth=4, width=8, readout="flatten")(images).shape,
        "stride": ConvNet(depth=4, width=8, readout="flatten", stride=2)(images).shape,
        "maxout": ConvNet(depth=4, width=8, activation="maxout")(images).shape,
    }
    assert shapes == {"average": (2, 16), "flatten": (2, 16 * 64), "stride": (2, 16 * 16), "maxout": (2, 16)}
    owned(ConvNet(depth=5, width=8))
    assert list(ConvNet(depth=3).layers) == ["conv1", "conv2", "conv3"]


def test_nearest_padding_continues_a_flat_image_to_its_border():
    net = ConvNet(depth=1, width=4, norm="none", padding="nearest", pool_every=2)
    flat = net.get_submodule("conv1.conv")(torch.ones(1, 3, 8, 8))
    assert_close(flat, flat[:, :, 4:5, 4:5].expand_as(flat))
    zero = ConvNet(depth=1, width=4, norm="none", pool_every=2).get_submodule("conv1.conv")(torch.ones(1, 3, 8, 8))
    assert not torch.allclose(zero, zero[:, :, 4:5, 4:5].expand_as(zero))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"kernel": 4}, "odd"),
        ({"depth": 12, "pool_every": 1}, "leave nothing"),
        ({"norm": "group", "width": 6}, "4 gr"),
    ],
)
def test_convnets_that_cannot_be_built_are_refused(keys, says):
    with pytest.raises(ConfigError, match=says):
        ConvNet(**keys)


def test_maxout_takes_the_larger_of_two_neighbours():
    values = torch.tensor([[1.0, 5.0, -2.0, -3.0]])
    assert Maxout()(values).tolist() == [[5.0, -2.0]]
    head = MlpHead(4, 2, hidden=[3], activation="maxout").eval()
    linear = next(layer for layer in head.hidden if isinstance(layer, nn.Linear))
    features = torch.randn(5, 4)
    both = linear(features)
    expected = torch.stack([torch.maximum(both[:, 2 * unit], both[:, 2 * unit + 1]) for unit in range(3)], dim=1)
    assert_close(head(features)[0], expected)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda x: max(0.0, x)),
        ("leaky_relu", lambda x: x if x > 0 else 0.01 * x),
        ("elu", lambda x: x if x > 0 else math.exp(x) - 1),
        ("gelu", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        ("silu", lambda x: x / (1 + math.exp(-x))),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("tanh", math.tanh),
    ],
)
def test_activations_are_their_formulas(name, formula):
    values = torch.linspace(-3, 3, 13)
    expected = [formula(x) for x in values.tolist()]
    assert_close(activation_module(name)(values), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_cosine_head_sees_angles_alone():
    head, features = CosineHead(6, 3, scale=10.0), torch.randn(4, 6)
    expected = [
        [10 * torch.dot(f, w).item() / (f.norm() * w.norm()).item() for w in head.linear.weight] for f in features
    ]
    assert_close(head(features)[1].tolist(), expected, rtol=1e-4, atol=1e-5)
    assert_close(head(features)[1], head(7 * features)[1])


def test_gaussian_head_is_minus_half_the_mean_squared_distance():
    head, features = GaussianHead(6, 3), torch.randn(4, 6)
    assert set(head.prototypes.flatten().tolist()) <= {-1.0, 1.0}
    expected = [
        [-0.5 * sum((a - b) ** 2 for a, b in zip(f, w, strict=True)) / 6 for w in head.prototypes.tolist()]
        for f in features.tolist()
    ]
    assert_close(head(features)[1].tolist(), expected, rtol=1e-4, atol=1e-5)
