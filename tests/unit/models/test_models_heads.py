from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.models.heads.dropout import KeyedDropout
from tune.models.heads.linear import LinearHead
from tune.models.heads.mlp import MlpHead
from tune.models.heads.multi_task import MultiTaskHead


def keyed(p: float = 0.5, key=(0, 0, 0)) -> KeyedDropout:
    dropout = KeyedDropout(p)
    dropout.key = key
    return dropout


def test_linear_head_is_one_matrix_product():
    head, features = LinearHead(6, 3), torch.randn(4, 6)
    embedding, logits = head(features)
    assert_close(embedding, features)
    assert_close(logits, features @ head.linear.weight.T + head.linear.bias)


def test_a_new_head_thinks_all_classes_about_equally_likely():
    _, logits = LinearHead(1280, 10)(torch.rand(64, 1280))
    assert abs(F.cross_entropy(logits, torch.arange(64) % 10).item() - math.log(10)) < 0.15


def test_mlp_head_computes_its_layers_in_turn():
    head, features = MlpHead(6, 3, hidden=[5, 4], activation="tanh").eval(), torch.randn(2, 6)
    first, second = (layer for layer in head.hidden if isinstance(layer, torch.nn.Linear))
    expected = torch.tanh(second(torch.tanh(first(features))))
    embedding, logits = head(features)
    assert embedding.shape == (2, 4)
    assert_close(embedding, expected)
    assert_close(logits, head.linear(expected))


@pytest.mark.parametrize("hidden", [[], [0]])
def test_mlp_head_without_units_is_refused(hidden):
    with pytest.raises(ConfigError, match=r"head\.hidden"):
        MlpHead(6, 3, hidden=hidden)


def test_dropout_drops_its_share_and_keeps_the_mean():
    out = keyed(0.3)(torch.ones(200, 500))
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / 0.7))


def test_the_mask_follows_from_the_key_and_leaves_the_global_state_alone():
    values = torch.ones(8, 64)
    before = torch.random.get_rng_state()
    first = keyed(key=(1, 2, 3))(values)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(keyed(key=(1, 2, 3))(values), first)


@pytest.mark.parametrize("key", [(2, 2, 3), (1, 3, 3), (1, 2, 4), (3, 2, 1)])
def test_another_seed_step_or_layer_is_another_mask(key):
    values = torch.ones(8, 64)
    assert not torch.equal(keyed(key=key)(values), keyed(key=(1, 2, 3))(values))


def test_masks_of_neighbouring_steps_are_independent():
    kept = torch.stack([(keyed(key=(0, step, 0))(torch.ones(2000)) != 0).float() for step in range(20)])
    correlation = torch.corrcoef(kept) - torch.eye(20)
    assert correlation.abs().max() < 0.12


def test_dropout_is_the_identity_in_eval_and_at_zero():
    values = torch.randn(3, 3)
    assert keyed().eval()(values) is values
    assert keyed(0.0)(values) is values


def test_dropout_without_a_key_is_torchs():
    values = torch.ones(4, 4)
    torch.manual_seed(5)
    ours = KeyedDropout(0.5)(values)
    torch.manual_seed(5)
    assert torch.equal(ours, F.dropout(values, 0.5))


def test_dropout_keeps_the_dtype_and_passes_scaled_gradients():
    values = torch.ones(50, dtype=torch.bfloat16, requires_grad=True)
    out = keyed()(values)
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert_close(values.grad, out.detach())


def test_a_head_for_several_tasks_is_one_matrix_product_shared_out():
    head, features = MultiTaskHead(6, 3, {"type": 2, "area": 1}), torch.randn(4, 6)
    embedding, logits = head(features)
    together = features @ head.linear.weight.T + head.linear.bias
    assert_close(embedding, features)
    assert_close(logits, together[:, :3])
    assert_close(head.tasks(embedding), {"type": together[:, 3:5], "area": together[:, 5:]})


def test_tasks_share_the_hidden_layers():
    head, features = MultiTaskHead(6, 3, {"area": 1}, hidden=[5, 4], activation="tanh"), torch.randn(4, 6)
    embedding, _ = head(features)
    first, second = (layer for layer in head.hidden if isinstance(layer, torch.nn.Linear))
    assert_close(embedding, second(first(features).tanh()).tanh())
    assert head.tasks(embedding)["area"].shape == (4, 1)


def test_an_activation_without_a_hidden_layer_is_refused():
    with pytest.raises(ConfigError, match=r"head\.activation: has no effect"):
        MultiTaskHead(6, 3, {"area": 1}, activation="elu")
