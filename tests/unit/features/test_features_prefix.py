from __future__ import annotations

import pytest
import torch
from torch import nn

from tune.features.extract import Encoder
from tune.features.prefix import Uncut, cut_backbone
from tune.models.backbones.timm_model import TimmBackbone
from tune.models.freeze import FreezePlan, apply_phase, set_modes
from tune.models.heads.linear import LinearHead
from tune.models.interface import Backbone, InputSpec
from tune.models.network import Network

# name, input size (None: the model's own), norms that can be folded when everything is frozen
FAMILIES = [
    ("resnet50", 64, 53),
    ("tf_efficientnet_lite0", 64, 49),
    ("efficientnetv2_rw_s", 64, 112),
    ("mobilenetv3_large_100", 64, 46),
    ("mobilenetv4_conv_small", 64, 46),
    ("convnext_tiny", 64, 0),
    ("vit_small_patch16_224", 64, 0),
    ("vit_small_patch14_dinov2", 56, 0),
    ("deit3_small_patch16_224", 64, 0),
    ("eva02_tiny_patch14_224", 56, 0),
    ("swin_tiny_patch4_window7_224", None, 0),
    ("maxvit_tiny_tf_224", None, 23),
    ("densenet121", 64, 59),
    ("vgg16", 64, 0),
    ("regnety_004", 64, 53),
    ("repvgg_a0", 64, 44),
    ("inception_v3", 139, 94),
]
SLOW = {"maxvit_tiny_tf_224", "swin_tiny_patch4_window7_224", "vgg16", "efficientnetv2_rw_s", "deit3_small_patch16_224"}
SLOW |= {"vit_small_patch14_dinov2", "regnety_004", "mobilenetv4_conv_small"}
"""Large, or built like another one: they take half of the time."""
MARKED = [
    pytest.param(*family, id=family[0], marks=[pytest.mark.slow] if family[0] in SLOW else []) for family in FAMILIES
]
DEEP = FreezePlan(rules={"head": "trained", "*": "frozen"})
THIRD = FreezePlan(cut=1 / 3)


def in_training(backbone: Backbone, plan: FreezePlan) -> set[str]:
    """Put a backbone into the modes that hold while it trains; names of what trains in it."""
    network = Network(backbone, LinearHead(feature_dim=backbone.feature_dim, num_classes=2, dropout=0.0))
    (phase,) = plan.phases(list(network.layers), 3)
    apply_phase(network, phase, plan.norm)
    network.train()
    set_modes(network, phase, plan.norm)
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def used(name: str, size: int | None) -> TimmBackbone:
    """A random backbone whose norms know the images: with the statistics of a new one many explode in eval mode."""
    backbone = TimmBackbone(name, "none", input_size=size)
    show(backbone, images(backbone, 8))
    return backbone


def show(backbone: nn.Module, batch: torch.Tensor) -> None:
    """Let the norms know these images, and no others."""
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the mean over all batches
                module.reset_running_stats()
        backbone.train()
        backbone(batch)


def images(backbone: Backbone, rows: int = 4) -> torch.Tensor:
    return torch.randn(rows, 3, *backbone.input.size).to(memory_format=torch.channels_last)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return bool((a - b).abs().max() <= tolerance * a.abs().max())


@pytest.mark.parametrize("plan", [DEEP, THIRD], ids=["deep", "third"])
@pytest.mark.parametrize(("name", "size", "norms"), MARKED)
def test_the_parts_give_what_the_whole_gives(name, size, norms, plan):
    backbone = used(name, size)
    trained = in_training(backbone, plan)
    cut = cut_backbone(backbone, trained, fold=False)
    assert cut is not None
    batch = images(backbone)
    flat = cut.encode(batch)
    assert flat.shape == (4, cut.numel)

    results = []
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    for way in (lambda: backbone(batch), lambda: cut.suffix(flat, training=True)):
        torch.manual_seed(1)  # for drop path
        features = way()
        if trained:
            backbone.zero_grad()
            features.square().mean().backward()
        gradients = {key: p.grad.clone() for key, p in backbone.named_parameters() if p.grad is not None}
        results.append((features.detach(), gradients))
        backbone.load_state_dict(state)
    (whole, whole_gradients), (parts, gradients) = results
    assert close(whole, parts)
    assert gradients.keys() == whole_gradients.keys() == trained
    largest = max((gradient.abs().max() for gradient in gradients.values()), default=0)
    for key in trained:
        assert (gradients[key] - whole_gradients[key]).abs().max() <= 1e-5 * largest

    backbone.eval()
    with torch.no_grad():
        assert close(backbone(batch), cut.suffix(flat))


@pytest.mark.parametrize(("name", "size", "norms"), MARKED)
def test_folded_norms_give_the_same_but_for_rounding(name, size, norms):
    backbone = TimmBackbone(name, "none", input_size=size).double()
    # Images that the norms know: of others a random EfficientNetV2 makes activations that blow every rounding up.
    batch = images(backbone, 8).double()
    show(backbone, batch)
    cut = cut_backbone(backbone, in_training(backbone, DEEP))
    assert cut is not None
    assert cut.folded == norms
    assert cut.numel == backbone.feature_dim
    with torch.no_grad():
        assert close(backbone.eval()(batch), cut.suffix(cut.encode(batch)), 1e-10)


def test_with_everything_trained_there_is_nothing_to_cut():
    backbone = TimmBackbone("resnet18", "none", input_size=64)
    assert cut_backbone(backbone, in_training(backbone, FreezePlan(rules={"*": "trained"}))) is None


def test_a_stem_that_trains_leaves_nothing_before_it():
    backbone = TimmBackbone("resnet18", "none", input_size=64)
    plan = FreezePlan(rules={"stem": "trained", "head": "trained", "*": "frozen"})
    assert cut_backbone(backbone, in_training(backbone, plan)) is None


def test_norms_that_follow_the_data_end_the_prefix():
    backbone = TimmBackbone("resnet18", "none", input_size=64)
    plan = FreezePlan(rules={"head": "trained", "*": "frozen"}, norm="train")
    cut = cut_backbone(backbone, in_training(backbone, plan))
    assert cut is not None
    assert [entry.shape for entry in cut.entries] == [(64, 32, 32)]  # behind the first convolution


def test_a_row_is_the_same_in_a_batch_of_any_size():
    backbone = TimmBackbone("tf_efficientnet_lite0", "none", input_size=32).to(memory_format=torch.channels_last)
    cut = cut_backbone(backbone, in_training(backbone, DEEP))
    assert cut is not None
    encoder, batch, threads = Encoder(cut, None, torch.device("cpu")), images(backbone, 32), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = encoder(batch)
        assert all(torch.equal(encoder(batch[:rows]), whole[:rows]) for rows in (1, 7, 16, 25))
    finally:
        torch.set_num_threads(threads)


def test_the_backbone_is_left_as_it_was():
    backbone = TimmBackbone("tf_efficientnet_lite0", "none", input_size=64, drop_path=0.2)
    trained = in_training(backbone, THIRD)
    modes = [module.training for module in backbone.modules()]
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    generator = torch.get_rng_state()
    cut_backbone(backbone, trained)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in state.items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_suffix_follows_the_backbone_and_the_prefix_does_not():
    backbone = TimmBackbone("resnet18", "none", input_size=64)
    cut = cut_backbone(backbone, in_training(backbone, THIRD))
    assert cut is not None
    batch = images(backbone)
    flat = cut.encode(batch)
    before = cut.suffix(flat)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.1)
    assert not close(before, cut.suffix(flat), 1e-2)
    assert torch.equal(flat, cut.encode(batch))


class Tiny(Backbone):
    """Two convolutions, the second behind something of the test's choice."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.second = nn.Conv2d(3, 4, 3), between, nn.Conv2d(4, 5, 3)
        self.feature_dim, self.input = 5, InputSpec((16, 16), (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.layers = {part: [f"{part}.weight", f"{part}.bias"] for part in ("first", "second")}
        self.weights_source, self.weights_digest = "random weights", ""

    def forward(self, images):
        return self.second(self.between(self.first(images))).mean((2, 3))


def test_a_suffix_that_writes_in_place_gets_a_copy():
    class Late(nn.Module):
        def forward(self, x):
            return x.add_(self.shift)

        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.ones(1))

    backbone = Tiny(Late()).train()
    cut = cut_backbone(backbone, {"between.shift", "second.weight", "second.bias"})
    assert cut is not None
    batch = images(backbone)
    flat = cut.encode(batch)
    with torch.no_grad():
        first, second = cut.suffix(flat), cut.suffix(flat)
        assert torch.equal(first, second)
        assert close(backbone(batch), first)


def test_a_backbone_that_cannot_be_traced_says_why():
    class Choosy(nn.Module):
        def forward(self, x):
            return x if x.mean() > 0 else -x

    backbone = Tiny(Choosy()).train()
    with pytest.raises(Uncut, match=r"torch.fx cannot trace it \(TraceError"):
        cut_backbone(backbone, {"second.weight", "second.bias"})


def test_randomness_before_the_cut_is_found():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.randn(x.shape) if self.training else x

    backbone = Tiny(Noisy()).train()
    with pytest.raises(Uncut, match="in training"):
        cut_backbone(backbone, {"second.weight", "second.bias"})


def test_dropout_before_the_cut_ends_the_prefix():
    backbone = Tiny(nn.Dropout(0.5)).train()
    cut = cut_backbone(backbone, {"second.weight", "second.bias"})
    assert cut is not None
    batch = images(backbone)
    torch.manual_seed(2)
    whole = backbone(batch)
    torch.manual_seed(2)
    assert close(whole, cut.suffix(cut.encode(batch), training=True))
