"""Sharpness-aware steps, averages of weights, L2-SP and L-BFGS, each against its formula."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.losses.penalties import L2SP, penalties_of, share_at_zero
from tune.train.callbacks.average import Average
from tune.train.optim import lbfgs
from tune.train.regularize import Regularize


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 2)


def test_l2_sp_is_half_the_squared_distance_from_the_start_of_what_trains():
    net = Net()
    penalty, start = L2SP(0.3, net.backbone), net.backbone[0].weight.detach().clone()
    assert penalty(net).item() == 0
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += torch.randn_like(parameter)
    moved = (net.backbone[0].weight - start).flatten().tolist()
    assert_close(penalty(net).item(), 0.3 / 2 * sum(value**2 for value in moved), rtol=1e-5, atol=1e-6)
    penalty(net).backward()
    assert_close(net.backbone[0].weight.grad, 0.3 * (net.backbone[0].weight.detach() - start))
    assert net.head.weight.grad is None
    net.backbone.requires_grad_(False)
    assert penalty(net).item() == 0


@pytest.mark.parametrize(("digest", "trains", "says"), [("", True, "no weights"), ("a", False, "is not trained")])
def test_l2_sp_without_effect_is_refused(digest, trains, says):
    net = SimpleNamespace(backbone=SimpleNamespace(weights_digest=digest))
    with pytest.raises(ConfigError, match=says):
        penalties_of(0, 0, 0.1, net, trains)


def test_the_share_at_zero_counts_weights_and_not_biases():
    weight = torch.tensor([[0.0, 9e-5, -2e-4], [1.0, -9e-5, 5.0]])
    assert share_at_zero([weight, torch.zeros(7)]) == pytest.approx(3 / 6)


def walk(average: Average, epochs: int, steps: int):
    """Random steps with the callback's hooks, as Lightning calls them; (weights after each step, in validation)."""
    torch.manual_seed(0)
    net = Net()
    module, trainer = SimpleNamespace(network=net), SimpleNamespace(global_step=0, current_epoch=0, max_epochs=epochs)
    taken, validated = [], []
    for epoch in range(epochs):
        trainer.current_epoch = epoch
        average.on_train_epoch_start(trainer, module)
        for _ in range(steps):
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter += torch.randn_like(parameter)
                net.backbone[1].running_mean += 1
            trainer.global_step += 1
            average.on_train_batch_end(trainer, module, None, None, 0)
            taken.append(copy.deepcopy(net.state_dict()))
        average.on_validation_start(trainer, module)
        validated.append(copy.deepcopy(net.state_dict()))
    return net, taken, validated


NAMES = ["backbone.0.weight", "backbone.1.running_mean", "head.bias"]


def test_the_exponential_average_follows_its_recursion_and_leaves_the_walk_alone():
    _, taken, validated = walk(Average(decay=0.9, epochs=0), epochs=3, steps=10)
    for name in NAMES:
        mean = taken[0][name].clone()
        for number, weights in enumerate(taken[1:], start=2):
            d = min(0.9, (1 + number) / (10 + number))
            mean = d * mean + (1 - d) * weights[name]
        assert_close(validated[-1][name], mean)
    _, plain, unchanged = walk(Average(decay=0.0, epochs=0), epochs=3, steps=10)
    assert all(torch.equal(taken[-1][name], plain[-1][name]) for name in NAMES)  # training never saw the average
    assert all(torch.equal(unchanged[-1][name], plain[-1][name]) for name in NAMES)


def test_the_average_of_epochs_is_the_mean_of_the_last_ones():
    _, taken, validated = walk(Average(decay=0.0, epochs=2), epochs=4, steps=3)
    for name in NAMES:
        assert_close(validated[1][name], taken[5][name])  # before the last two epochs: the weights themselves
        assert_close(validated[2][name], taken[8][name])
        assert_close(validated[3][name], (taken[8][name] + taken[11][name]) / 2)


@pytest.mark.parametrize(
    ("keys", "given", "says"),
    [
        ({"sam": 0.05}, (10, 1, "16-mixed"), "two gradients"),
        ({"sam": 0.05}, (10, 2, "32-true"), "whole batch"),
        ({"ema": 0.9, "swa": 2}, (10, 1, "32-true"), "take one"),
        ({"swa": 2, "early_stopping": 3}, (10, 1, "32-true"), "leaves out"),
        ({"swa": 10}, (10, 1, "32-true"), "leave none"),
    ],
)
def test_regularizers_that_clash_are_refused(keys, given, says):
    assert says in str(Regularize(**keys).problems(*given)[0])
    assert Regularize(l1=1, l2=1, sam=0.05, ema=0.9).problems(10, 1, "32-true") == []


def groups(*tensors, lr=1.0):
    return [{"params": [tensor], "lr": lr, "weight_decay": 0.0, "name": "head"} for tensor in tensors]


def test_lbfgs_reaches_the_optimum_that_scikit_learn_finds():
    draw = np.random.default_rng(0)
    rows, strength = draw.normal(size=(200, 5)), 0.02
    labels = (rows @ draw.normal(size=5) + draw.normal(size=200) > 0).astype(int)
    theirs = LogisticRegression(C=1 / (strength * 200), tol=1e-10, max_iter=1000).fit(rows, labels)
    x, y = torch.tensor(rows), torch.tensor(labels, dtype=torch.float64)
    weight, bias = torch.zeros(5, dtype=torch.float64).requires_grad_(), torch.zeros(1, dtype=torch.float64)
    optimizer = lbfgs(groups(weight, bias.requires_grad_()), 1.0, 0.0, max_iter=100)

    def closure():
        optimizer.zero_grad()
        logits = x @ weight + bias
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y) + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert_close(weight.detach().numpy(), theirs.coef_[0], rtol=1e-4, atol=1e-5)


def test_lbfgs_refuses_weight_decay_and_several_rates():
    tensor = torch.zeros(2).requires_grad_()
    with pytest.raises(ConfigError, match=r"regularize\.l2"):
        lbfgs(groups(tensor), 1.0, 0.1)
    with pytest.raises(ConfigError, match="one rate"):
        lbfgs(groups(tensor) + groups(torch.ones(2).requires_grad_(), lr=0.1), 1.0, 0.0)
