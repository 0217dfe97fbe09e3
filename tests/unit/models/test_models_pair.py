"""Two backbones side by side say what each says alone of the image in its own size, and freeze apart."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tune.config.build import build
from tune.errors import ConfigError
from tune.features.prefix import cut_backbone
from tune.models.backbones.lenet import LeNet
from tune.models.backbones.pair import PairBackbone
from tune.models.backbones.timm_model import TimmBackbone
from tune.models.freeze import FreezePlan, apply_phase, set_modes
from tune.models.heads.linear import LinearHead
from tune.models.network import Network

TIMM = "tune.models.backbones.timm_model.TimmBackbone"


def pair() -> PairBackbone:
    """ResNet-18 at 64 px with ImageNet's mean beside LeNet at 32 px with mean 0.5."""
    return PairBackbone(TimmBackbone("resnet18", "none", input_size=64), LeNet()).eval()


def test_each_sees_the_image_in_its_own_size_and_scale():
    both = pair()
    pixels = torch.rand(3, 3, 64, 64)
    first, second = both.first.backbone, both.second.backbone

    def scaled(images, spec):
        mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
        return (images - mean) / std

    small = F.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        found = both(scaled(pixels, both.input))
        apart = torch.cat([first(scaled(pixels, first.input)), second(scaled(small, second.input))], dim=1)
    assert both.input.size == (64, 64)
    assert both.feature_dim == found.shape[1] == 512 + 84
    assert torch.allclose(found, apart, atol=1e-5)


def test_layers_run_by_their_share_of_the_depth_and_hold_every_tensor_once():
    both = pair()
    names = [name for names in both.layers.values() for name in names]
    tensors = [name for name, _ in (*both.named_parameters(), *both.named_buffers())]
    assert sorted(names) == sorted(tensors)
    for part, backbone in (("first", both.first.backbone), ("second", both.second.backbone)):
        own = [layer.removeprefix(f"{part}.") for layer in both.layers if layer.startswith(part)]
        assert own == list(backbone.layers)
    assert [layer.partition(".")[0] for layer in both.layers][-2:] == ["first", "second"]


@pytest.mark.parametrize(
    ("plan", "trains"),
    [
        (FreezePlan(rules={"head": "trained", "*": "frozen"}), set()),
        (FreezePlan(rules={"head": "trained", "second.*": "trained", "*": "frozen"}), {"second"}),
        (FreezePlan(cut=2), {"first", "second"}),
    ],
)
def test_the_parts_freeze_apart_and_the_cut_gives_what_the_whole_gives(plan, trains):
    both = pair()
    network = Network(both, LinearHead(feature_dim=both.feature_dim, num_classes=2, dropout=0.0))
    (phase,) = plan.phases(list(network.layers), 3)
    apply_phase(network, phase, plan.norm)
    network.train()
    set_modes(network, phase, plan.norm)
    trained = {name for name, parameter in both.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in trained} == trains
    cut = cut_backbone(both, trained)
    assert cut is not None
    images = torch.randn(4, 3, 64, 64)
    both.eval()
    with torch.no_grad():
        whole, parts = both(images), cut.suffix(cut.encode(images))
    assert (whole - parts).abs().max() <= 1e-5 * whole.abs().max()


def test_an_error_of_one_part_names_its_key():
    node = {
        "_target_": "tune.models.backbones.pair.PairBackbone",
        "first": {"_target_": TIMM, "name": "resnet18", "weights": "none"},
        "second": {"_target_": TIMM, "name": "resnet18", "weights": "lost.pt"},
    }
    with pytest.raises(ConfigError, match=r"backbone\.second\.weights: no file 'lost.pt'"):
        build(node, output="outputs")


def test_random_weights_beside_pretrained_ones_are_refused():
    known = TimmBackbone("resnet18", "none", input_size=64)
    known.weights_digest = "12ab"
    with pytest.raises(ConfigError, match=r"backbone\.second\.weights: random weights"):
        PairBackbone(known, LeNet())
