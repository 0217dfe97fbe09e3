from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tune.models.backbones.timm_model import TimmBackbone
from tune.models.heads.linear import LinearHead
from tune.models.heads.mlp import MlpHead
from tune.models.network import Network


@pytest.fixture
def network() -> Network:
    return Network(TimmBackbone("resnet18", "none"), LinearHead(512, 3, dropout=0.5)).eval()


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_output_is_the_head_on_the_backbone(network):
    output = network(IMAGES)
    features = network.backbone(IMAGES)
    assert_close(output.features, features)
    assert_close(output.logits, network.head.linear(features))


def test_layers_hold_every_tensor_of_the_network_once(network):
    listed = [name for names in network.layers.values() for name in names]
    tensors = [*dict(network.named_parameters()), *dict(network.named_buffers())]
    assert sorted(listed) == sorted(tensors)
    assert list(network.layers)[-1] == "head"


def test_logits_are_fp32_and_the_head_runs_in_fp32_under_autocast(network):
    with torch.autocast("cpu", torch.bfloat16):
        output = network(IMAGES)
        features = network.backbone(IMAGES)
    assert features.dtype == torch.bfloat16
    assert output.logits.dtype == torch.float32
    assert_close(output.logits, network.head.linear(features.float()), rtol=0, atol=0)


def test_a_frozen_backbone_runs_in_its_dtype_without_a_graph(network):
    network.frozen_dtype = torch.bfloat16
    network.backbone.requires_grad_(False)
    output = network(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(output.features, network.backbone(IMAGES).float(), rtol=0, atol=0)
    assert not output.features.requires_grad
    assert output.logits.requires_grad


def test_a_backbone_that_trains_in_part_ignores_the_frozen_dtype(network):
    network.frozen_dtype = torch.bfloat16
    network.backbone.requires_grad_(False)
    network.get_parameter("backbone.model.layer4.1.bn2.weight").requires_grad_(True)
    output = network(IMAGES)
    assert_close(output.features, network.backbone(IMAGES), rtol=0, atol=0)


def test_images_can_ask_for_a_gradient_through_a_frozen_backbone(network):
    network.frozen_dtype = torch.bfloat16
    network.backbone.requires_grad_(False)
    images = IMAGES.clone().requires_grad_()
    network(images).logits.sum().backward()
    assert images.grad is not None
    assert images.grad.any()


def test_a_network_in_double_precision_gives_fp32_logits(network):
    network.double()
    assert network(IMAGES.double()).logits.dtype == torch.float32


def test_set_step_gives_each_dropout_layer_its_own_mask_and_each_step_another():
    network = Network(TimmBackbone("resnet18", "none"), MlpHead(512, 3, hidden=[512], dropout=0.5))
    network.backbone.eval()
    first, second = (module for module in network.head.hidden if module.__class__.__name__ == "KeyedDropout")
    seen = []
    for step in (7, 8, 7):
        network.set_step(seed=1, step=step)
        seen.append((first(torch.ones(2, 512)), second(torch.ones(2, 512))))
    assert torch.equal(seen[0][0], seen[2][0])
    assert torch.equal(seen[0][1], seen[2][1])
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[0][0], seen[0][1])
