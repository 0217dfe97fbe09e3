from __future__ import annotations

from itertools import chain

import pytest
import torch
from timm.layers import DropPath

from tune.errors import ConfigError
from tune.models.backbones.timm_model import TimmBackbone

CHEAP = [
    "resnet18",
    "tf_efficientnet_lite0",
    "mobilenetv4_conv_small_035",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
    "regnety_002",
    "densenet121",
]


@pytest.fixture(scope="module", params=CHEAP)
def backbone(request) -> TimmBackbone:
    return TimmBackbone(request.param, weights="none")


def test_every_parameter_and_buffer_is_in_exactly_one_layer(backbone):
    listed = [name for names in backbone.layers.values() for name in names]
    tensors = [name for name, _ in chain(backbone.named_parameters(), backbone.named_buffers())]
    assert sorted(listed) == sorted(tensors)


def test_layers_are_named_after_one_of_their_modules_and_the_first_holds_the_first_tensor(backbone):
    first = next(iter(backbone.layers))
    assert next(name for name, _ in backbone.named_parameters()) in backbone.layers[first]
    for layer, names in list(backbone.layers.items())[1:]:
        assert any(name.startswith((f"model.{layer}.", f"model.head.{layer}.")) for name in names)


def test_no_layer_is_taken_for_the_head_of_the_network(backbone):
    assert not [layer for layer in backbone.layers if layer == "head" or layer.startswith("head.")]


def small_images(backbone: TimmBackbone) -> torch.Tensor:
    is_fixed = backbone.model.pretrained_cfg["fixed_input_size"]  # type: ignore[index]
    return torch.zeros(1, 3, *(backbone.input.size if is_fixed else (64, 64)))


def test_layers_are_in_the_order_in_which_images_pass_them(backbone):
    depth = {name: number for number, names in enumerate(backbone.layers.values()) for name in names}
    passed: list[int] = []
    handles = []
    for name, module in backbone.named_modules():
        own = [depth[f"{name}.{tensor}"] for tensor, _ in module.named_parameters(recurse=False)]
        if own and not list(module.children()):
            handles.append(module.register_forward_hook(lambda *_, number=own[0]: passed.append(number)))
    with torch.no_grad():
        backbone.eval()(small_images(backbone))
    for handle in handles:
        handle.remove()
    assert len(set(passed)) > 4
    assert passed == sorted(passed)


def test_features_have_the_promised_shape(backbone):
    with torch.no_grad():
        assert backbone.eval()(small_images(backbone)).shape == (1, backbone.feature_dim)


def test_layer_names_are_those_of_the_blocks():
    assert list(TimmBackbone("resnet18", "none").layers) == [
        "stem", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1",
    ]  # fmt: skip
    assert list(TimmBackbone("vit_tiny_patch16_224", "none").layers) == ["stem", *(f"blocks.{i}" for i in range(12))]


def test_lite0_wants_images_as_its_authors_evaluated_it():
    wanted = TimmBackbone("tf_efficientnet_lite0", "none").input
    assert (wanted.size, wanted.mean, wanted.std) == ((224, 224), (0.5,) * 3, (0.5,) * 3)
    assert wanted.interpolation == "bicubic"


def test_random_weights_follow_the_global_seed_and_have_no_digest():
    torch.manual_seed(3)
    one = TimmBackbone("resnet18", "none")
    torch.manual_seed(3)
    other = TimmBackbone("resnet18", "none")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert (one.weights_digest, one.weights_source) == ("", "random weights")


def test_input_size_changes_what_a_transformer_is_built_for():
    backbone = TimmBackbone("vit_tiny_patch16_224", "none", input_size=64)
    assert backbone.input.size == (64, 64)
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 192)


def test_input_size_of_a_convolutional_network_is_only_what_images_are_resized_to():
    assert TimmBackbone("resnet18", "none", input_size=96).input.size == (96, 96)


def test_drop_path_reaches_the_blocks():
    rates = [
        m.drop_prob for m in TimmBackbone("convnext_atto", "none", drop_path=0.2).modules() if isinstance(m, DropPath)
    ]
    assert max(rates) == pytest.approx(0.2)


@pytest.mark.parametrize("name", ["vgg11", "densenet121"])
def test_drop_path_without_residual_branches_is_refused(name):
    with pytest.raises(ConfigError, match=r"backbone\.drop_path: has no effect"):
        TimmBackbone(name, "none", drop_path=0.1)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet81", "Nearest: resnet"),
        ("resnet18.nope", "resnet18.a1_in1k"),
        ("hf-hub:a/b", "no model"),
        ("pit_ti_224", "does not tell the layers"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, told):
    with pytest.raises(ConfigError, match=told):
        TimmBackbone(name, "none")
