"""K optimizers that step together against K of torch's that step alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tune.train.fused.optim import CannotFuse, StackedOptimizer

SGD, ADAGRAD, RMSPROP = torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop
ADAM, ADAMW = torch.optim.Adam, torch.optim.AdamW

KINDS = {
    "sgd": [partial(SGD, lr=0.1), partial(SGD, lr=0.01, weight_decay=0.1)],
    "momentum": [
        partial(SGD, lr=0.1, momentum=0.9),
        partial(SGD, lr=0.05),
        partial(SGD, lr=0.02, momentum=0.5, nesterov=True, weight_decay=0.01),
    ],
    "adagrad": [
        partial(ADAGRAD, lr=0.1),
        partial(ADAGRAD, lr=0.2, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.5, eps=1e-3),
    ],
    "rmsprop": [
        partial(RMSPROP, lr=0.01),
        partial(RMSPROP, lr=0.02, alpha=0.8, eps=1e-3, momentum=0.9, weight_decay=0.1),
    ],
    "rmsprop centered": [partial(RMSPROP, lr=0.01, centered=True), partial(RMSPROP, lr=0.1, alpha=0.5, centered=True)],
    "adam": [partial(ADAM, lr=0.01), partial(ADAM, lr=0.02, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)],
    "amsgrad": [partial(ADAM, lr=0.01, amsgrad=True), partial(ADAM, lr=0.1, weight_decay=0.1, amsgrad=True)],
    "adamw": [partial(ADAMW, lr=0.01), partial(ADAMW, lr=0.02, betas=(0.5, 0.9), weight_decay=0.5)],
    "one": [partial(ADAMW, lr=0.01, weight_decay=0.1)],
}


def grouped(kind, weight, bias):
    """An optimizer in which weight decay is for the weight alone, as `parameter_groups` has it."""
    optimizer = kind([weight])
    optimizer.add_param_group({"params": [bias], "weight_decay": 0.0})
    return optimizer


@pytest.mark.parametrize("name", KINDS)
def test_each_ends_where_torchs_own_ends(name):
    kinds, draw = KINDS[name], torch.Generator().manual_seed(0)
    trials = len(kinds)
    weights, biases = torch.randn(trials, 3, 5, generator=draw), torch.randn(trials, 3, generator=draw)
    targets = torch.randn(trials, 3, generator=draw)
    inputs = torch.randn(25, 5, generator=draw)
    alone = [(w.clone().requires_grad_(), b.clone().requires_grad_()) for w, b in zip(weights, biases, strict=True)]
    optimizers = [grouped(kind, *pair) for kind, pair in zip(kinds, alone, strict=True)]
    stacked = [weights.clone().requires_grad_(), biases.clone().requires_grad_()]
    together = StackedOptimizer(stacked, optimizers)
    rates = torch.tensor([optimizer.param_groups[0]["lr"] for optimizer in optimizers], dtype=torch.float64)
    for step in range(25):
        factor = 1 - step / 30
        for (weight, bias), optimizer, target, rate in zip(alone, optimizers, targets, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = float(rate) * factor
            optimizer.zero_grad()
            (weight @ inputs[step] + bias - target).square().sum().backward()
            optimizer.step()
        for tensor in stacked:
            tensor.grad = None
        (stacked[0] @ inputs[step] + stacked[1] - targets).square().sum().backward()
        together.step(rates * factor)
    for number, (weight, bias) in enumerate(alone):
        assert torch.allclose(stacked[0][number], weight, rtol=1e-5, atol=1e-6)
        assert torch.allclose(stacked[1][number], bias, rtol=1e-5, atol=1e-6)


def test_those_that_go_on_keep_what_they_remember():
    kinds = KINDS["adam"] * 2
    start, target = torch.arange(8.0).reshape(4, 2, 1), torch.ones(4, 2, 1)
    whole, part = start.clone().requires_grad_(), start.clone().requires_grad_()
    optimizers = [kind([torch.zeros(2, 1, requires_grad=True)]) for kind in kinds]
    all_four, some = StackedOptimizer([whole], optimizers), StackedOptimizer([part], optimizers)
    rates = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for _ in range(3):
        for optimizer, tensor in ((all_four, whole), (some, part)):
            tensor.grad = 2 * (tensor.detach() - target)
            optimizer.step(rates)
    alive = torch.tensor([1, 3])
    part = part.detach()[alive].requires_grad_()
    some.keep([part], alive)
    for _ in range(3):
        whole.grad = 2 * (whole.detach() - target)
        all_four.step(rates)
        part.grad = 2 * (part.detach() - target[alive])
        some.step(rates[alive])
    assert torch.equal(part, whole[alive])


def test_what_has_no_fused_form_says_so():
    weight = torch.zeros(2, 3, 3, requires_grad=True)
    with pytest.raises(CannotFuse, match="ASGD"):
        StackedOptimizer([weight], [torch.optim.ASGD([weight]), torch.optim.ASGD([weight])])
    with pytest.raises(CannotFuse, match="amsgrad"):
        StackedOptimizer([weight], [ADAM([weight]), ADAM([weight], amsgrad=True)])
