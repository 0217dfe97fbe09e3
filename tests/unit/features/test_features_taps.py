"""A tap is what a hook on the layer's module sees, averaged."""

from __future__ import annotations

import pytest
import torch

from tune.features.extract import Encoder
from tune.features.taps import OUTPUT, Taps, layers_at
from tune.models.backbones.convnet import ConvNet
from tune.models.backbones.timm_model import TimmBackbone

CASES = {
    "tf_efficientnet_lite0": (64, ["blocks.1.0", "blocks.3.2", "blocks.5.1"]),
    "resnet18": (64, ["layer1.1", "layer3.0"]),
    "resnetv2_50": (64, ["stages.1.blocks.0"]),
    "convnext_atto": (64, ["stages.1.blocks.0", "stages.2.blocks.3"]),
    "vit_tiny_patch16_224": (64, ["blocks.2", "blocks.9"]),
    "swin_tiny_patch4_window7_224": (112, ["layers.1.blocks.0"]),
}


def hooked(backbone, layers, images):
    """Mean over places of what each layer's module gives; channels are the dimension that is not of places."""
    seen = {}

    def note(name):
        def hook(module, inputs, output):
            if output.ndim == 4:
                places = (1, 2) if output.shape[1] == output.shape[2] != output.shape[3] else (2, 3)
                seen[name] = output.mean(dim=places)
            else:
                seen[name] = output.mean(dim=1)

        return hook

    handles = [backbone.model.get_submodule(layer).register_forward_hook(note(layer)) for layer in layers]
    with torch.no_grad():
        seen[OUTPUT] = backbone(images)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("name", CASES)
def test_taps_are_what_hooks_see(name):
    size, layers = CASES[name]
    backbone = TimmBackbone(name, weights="none", input_size=size).eval()
    images = torch.randn(3, 3, *backbone.input.size)
    taps = Taps(backbone, layers)
    found = taps.split(taps.encode(images))
    expected = hooked(backbone, layers, images)
    assert list(found) == [*layers, OUTPUT]
    for layer, rows in found.items():
        assert rows.shape == (3, taps.widths[layer])
        torch.testing.assert_close(rows, expected[layer], rtol=1e-3, atol=1e-4 * float(expected[layer].abs().max()))


def test_a_backbone_is_left_as_it_is_and_random_numbers_too():
    backbone = TimmBackbone("resnet18", weights="none", input_size=32).train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    state = torch.get_rng_state()
    Taps(backbone, ["layer2.0"]).encode(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.training
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def test_norms_are_folded_and_an_encoder_runs_taps_as_it_runs_a_cut():
    backbone = ConvNet()
    taps = Taps(backbone, ["conv1"])
    assert taps.folded or not any(isinstance(each, torch.nn.BatchNorm2d) for each in backbone.modules())
    images = torch.randn(5, 3, *backbone.input.size)
    rows = Encoder(taps, None, torch.device("cpu"))(images)
    torch.testing.assert_close(rows, taps.encode(images), rtol=1e-4, atol=1e-5)


def test_time_grows_with_depth():
    backbone = TimmBackbone("resnet18", weights="none", input_size=64)
    taps = Taps(backbone, ["layer1.0", "layer4.1"])
    seconds = taps.seconds(torch.randn(4, 3, 64, 64), None)
    assert 0 < seconds["layer1.0"] < seconds["layer4.1"] <= seconds[OUTPUT] < 10


@pytest.mark.parametrize("number", [0, 1, 4, 50])
def test_layers_are_spread_over_the_depth_below_the_last(number):
    backbone = TimmBackbone("resnet18", weights="none", input_size=32)
    layers = list(backbone.layers)
    found = layers_at(backbone, number)
    places = [layers.index(layer) for layer in found]
    assert places == sorted(set(places))
    assert len(found) == min(number, len(layers) - 1)
    assert layers[-1] not in found
