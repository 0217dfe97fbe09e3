"""What spoke for a class, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tune.models.heads.linear import LinearHead
from tune.models.interface import Backbone, InputSpec
from tune.models.network import Network
from tune.train.pictures.attribution import NoMap, judged_plainly, maps_of, places_of


class Plain(Backbone):
    """Layers of one's own as a backbone."""

    def __init__(self, layers: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.inner = layers
        self.feature_dim = feature_dim
        self.input = InputSpec((16, 16), (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.layers = {"all": [name for name, _ in [*self.named_parameters(), *self.named_buffers()]]}
        self.weights_source, self.weights_digest = "", ""

    def forward(self, images):
        return self.inner(images)


class Tokens(nn.Module):
    """Patches of 4 × 4 as tokens behind one of the class, which reads the others by their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix, self.after = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(5, 5), nn.LayerNorm(5)

    def forward(self, images):
        tokens = self.patch(images).flatten(2).transpose(1, 2)  # (B, 16, 5)
        tokens = self.mix(torch.cat([tokens.new_zeros(len(images), 1, 5), tokens], dim=1))
        read = torch.cat([tokens[:, 1:].mean(dim=1, keepdim=True), tokens[:, 1:]], dim=1)
        return self.after(read)[:, 0]


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 16)


def network_of(layers, feature_dim):
    backbone = Plain(layers, feature_dim)
    return Network(backbone, LinearHead(feature_dim, 3, 0.0))


def test_a_map_is_that_of_the_closed_form(images):
    """Behind an average and a linear layer Grad-CAM is the weighted sum of the maps: α_k = w_k / (H W)."""
    convs = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3, stride=2))
    network = network_of(nn.Sequential(convs, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4)
    classes = torch.tensor([2, 0, 1])
    with judged_plainly(network):
        places = places_of(network, images[:1])
        found = maps_of(network, images, classes, places)
    assert [(place.name, place.kind, place.size) for place in places] == [("backbone.inner.0", "map", (3, 3))]
    with torch.no_grad():
        maps = convs(images)
        weights = network.head.linear.weight[classes]
        for row in range(3):
            whole = sum(weights[row, k] * maps[row, k] for k in range(4))
            wide = F.interpolate(whole[None, None], (16, 16), mode="bilinear")[0, 0].clamp_min(0)
            torch.testing.assert_close(found[row], wide / wide.max().clamp_min(1e-12), atol=1e-5, rtol=1e-4)


def test_patches_are_seen_where_a_token_of_the_class_reads_them(images):
    network = network_of(Tokens(), 5)
    with judged_plainly(network):
        places = places_of(network, images[:1])
        found = maps_of(network, images, torch.tensor([0, 0, 0]), places)
    assert [(place.name, place.kind, place.size) for place in places] == [("backbone.inner.mix", "tokens", (4, 4))]
    assert found.shape == (3, 16, 16)
    assert found.amax(dim=(1, 2)).tolist() == pytest.approx([1, 1, 1])


def test_a_backbone_that_forgets_places_has_no_map(images):
    network = network_of(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), 4)
    with judged_plainly(network), pytest.raises(NoMap, match="keeps the places"):
        places_of(network, images[:1])


def test_the_network_is_left_as_it_was(images):
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = network_of(layers, 4).train()
    layers[1].eval()
    layers[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    draws = torch.get_rng_state()
    with judged_plainly(network):
        maps_of(network, images, torch.tensor([0, 1, 2]), places_of(network, images[:1]))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert [layers[1].training, layers[0].training, network.training] == [False, True, True]
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["backbone.inner.0.weight"]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(draws, torch.get_rng_state())
