from __future__ import annotations

import math
from copy import copy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tune.batch import Batch, Output
from tune.errors import ConfigError
from tune.losses.cross_entropy import CrossEntropy
from tune.losses.focal import Focal
from tune.losses.weighted import Weighted

COUNTS = [6, 3, 1]


@pytest.fixture
def output() -> Output:
    logits = torch.randn(10, 3) * 3
    return Output(torch.zeros(10, 2), torch.zeros(10, 2), logits.requires_grad_())


@pytest.fixture
def batch() -> Batch:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    return Batch(torch.zeros(10, 3, 1, 1), labels, F.one_hot(labels, 3).float(), torch.ones(10), torch.arange(10))


@pytest.fixture
def soft_batch(batch: Batch) -> Batch:
    soft = copy(batch)
    soft.label_probs = torch.rand(10, 3).softmax(dim=1)
    soft.weights = torch.rand(10) + 0.1
    return soft


def slow_loss(output: Output, batch: Batch, classes=(1.0, 1.0, 1.0), gamma: float = 0.0) -> float:
    """The formula, one number at a time."""
    total = weight_sum = 0.0
    for logits, aims, weight in zip(
        output.logits.tolist(), batch.label_probs.tolist(), batch.weights.tolist(), strict=True
    ):
        denominator = sum(math.exp(logit) for logit in logits)
        row = 0.0
        for logit, aim, factor in zip(logits, aims, classes, strict=True):
            p = math.exp(logit) / denominator
            row -= factor * aim * (1 - p) ** gamma * math.log(p)
        total += weight * row
        weight_sum += weight
    return total / weight_sum


def test_cross_entropy_is_torchs_on_hard_labels(output, batch):
    assert_close(CrossEntropy()(output, batch), F.cross_entropy(output.logits, batch.labels))


def test_cross_entropy_matches_the_formula_with_soft_labels_and_row_weights(output, soft_batch):
    assert_close(CrossEntropy()(output, soft_batch).item(), slow_loss(output, soft_batch), rtol=1e-5, atol=0)


def test_weighted_matches_the_formula_with_given_classes(output, soft_batch):
    loss = Weighted(COUNTS, classes=[1, 2.5, 4])(output, soft_batch)
    assert_close(loss.item(), slow_loss(output, soft_batch, (1, 2.5, 4)), rtol=1e-5, atol=0)


def test_inverse_weights_have_mean_one_over_the_training_rows():
    weights = Weighted(COUNTS).classes.tolist()
    per_row = [weight for weight, count in zip(weights, COUNTS, strict=True) for _ in range(count)]
    assert_close(sum(per_row) / len(per_row), 1.0)


def test_inverse_weights_make_each_class_weigh_the_same_as_a_whole():
    weights = Weighted(COUNTS).classes.tolist()
    shares = [weight * count for weight, count in zip(weights, COUNTS, strict=True)]
    assert_close(shares, [shares[0]] * 3)


def test_inverse_weights_of_balanced_classes_change_nothing(output, soft_batch):
    assert_close(Weighted([5, 5, 5])(output, soft_batch), CrossEntropy()(output, soft_batch))


@pytest.mark.parametrize(
    ("classes", "told"),
    [([1.0, 2.0], "2 weights for 3"), ([1.0, -1.0, 1.0], "negative"), ([0.0] * 3, "all 0"), ("inverted", "inverse")],
)
def test_weighted_refuses_weights_that_make_no_sense(classes, told):
    with pytest.raises(ConfigError, match=told):
        Weighted(COUNTS, classes=classes)


def test_inverse_weights_of_a_class_without_rows_are_refused():
    with pytest.raises(ConfigError, match="class 1 has no training row"):
        Weighted([4, 0, 2])


def test_focal_with_gamma_zero_is_cross_entropy(output, soft_batch):
    assert_close(Focal(gamma=0.0)(output, soft_batch), CrossEntropy()(output, soft_batch))


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_matches_the_formula(output, soft_batch, gamma):
    loss = Focal(gamma)(output, soft_batch).item()
    assert_close(loss, slow_loss(output, soft_batch, gamma=gamma), rtol=1e-5, atol=0)


def test_focal_gradient_is_finite_where_a_row_is_certain(batch):
    logits = (batch.label_probs * 1e4).requires_grad_()
    Focal(gamma=0.5)(Output(logits, logits, logits), batch).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", [CrossEntropy(), Weighted(COUNTS), Focal()])
def test_a_row_without_weight_does_not_count(output, batch, loss):
    batch.weights[3:] = 0
    few = Batch(batch.images[:3], batch.labels[:3], batch.label_probs[:3], batch.weights[:3], batch.index[:3])
    few_output = Output(output.features[:3], output.embedding[:3], output.logits[:3])
    assert_close(loss(output, batch), loss(few_output, few))


@pytest.mark.parametrize("loss", [CrossEntropy(), Weighted(COUNTS), Focal()])
def test_a_batch_without_any_weight_costs_nothing(output, batch, loss):
    batch.weights[:] = 0
    value = loss(output, batch)
    value.backward()
    assert value == 0
    assert not output.logits.grad.any()


@pytest.mark.parametrize("loss", [CrossEntropy(), Weighted(COUNTS), Focal()])
def test_gradients_match_finite_differences(soft_batch, loss):
    soft_batch.label_probs, soft_batch.weights = soft_batch.label_probs.double(), soft_batch.weights.double()
    logits = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: loss(Output(values, values, values), soft_batch), logits)
