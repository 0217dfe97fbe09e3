from __future__ import annotations

import copy
import math

import pytest
import timm.optim
import torch
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.train import optim

LR, DECAY, STEPS = 0.1, 0.01, 3
BETAS = [0.9, 0.999]


def run(make, **keys) -> float:
    """One weight, starting at 1.5, minimising w^2 (gradient 2w) for three steps."""
    weight = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    optimizer = make([{"params": [weight], "lr": LR, "weight_decay": DECAY}], LR, DECAY, **keys)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    return weight.item()


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_follows_the_formula(momentum, nesterov):
    w, v = 1.5, 0.0
    for _ in range(STEPS):
        g = 2 * w + DECAY * w
        v = momentum * v + g
        w -= LR * (g + momentum * v if nesterov else v)
    assert_close(run(optim.sgd, momentum=momentum, nesterov=nesterov), w)


@pytest.mark.parametrize("lr_decay", [0.0, 0.5])
def test_adagrad_follows_the_formula(lr_decay):
    w, total = 1.5, 0.2
    for step in range(STEPS):
        g = 2 * w + DECAY * w
        total += g * g
        w -= LR / (1 + step * lr_decay) * g / (math.sqrt(total) + 1e-10)
    assert_close(run(optim.adagrad, lr_decay=lr_decay, initial_accumulator_value=0.2), w)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_follows_the_formula(centered):
    w, s, mean, v = 1.5, 0.0, 0.0, 0.0
    for _ in range(STEPS):
        g = 2 * w + DECAY * w
        s = 0.95 * s + 0.05 * g * g
        mean = 0.95 * mean + 0.05 * g
        v = 0.5 * v + g / (math.sqrt(s - mean * mean if centered else s) + 1e-8)
        w -= LR * v
    assert_close(run(optim.rmsprop, alpha=0.95, momentum=0.5, centered=centered), w)


@pytest.mark.parametrize("is_decoupled", [False, True])
def test_adam_and_adamw_follow_the_formula(is_decoupled):
    w, m, v = 1.5, 0.0, 0.0
    for step in range(1, STEPS + 1):
        g = 2 * w + (0 if is_decoupled else DECAY * w)
        if is_decoupled:
            w -= LR * DECAY * w
        m = 0.8 * m + 0.2 * g
        v = 0.99 * v + 0.01 * g * g
        w -= LR * (m / (1 - 0.8**step)) / (math.sqrt(v / (1 - 0.99**step)) + 1e-8)
    assert_close(run(optim.adamw if is_decoupled else optim.adam, betas=[0.8, 0.99]), w)


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (optim.sgd, {"momentum": 0.9}),
        (optim.adagrad, {}),
        (optim.rmsprop, {}),
        (optim.adam, {"betas": BETAS}),
        (optim.adamw, {"betas": BETAS}),
        (optim.by_timm_name, {"name": "lamb"}),
    ],
)
def test_each_group_keeps_its_own_rate_and_decay(make, keys):
    groups = [
        {"params": [torch.zeros(2, 2, requires_grad=True)], "lr": lr, "weight_decay": decay, "name": "layer"}
        for lr, decay in ((1e-3, 0.1), (1e-2, 0.0))
    ]
    made = make(groups, 1.0, 1.0, **keys)
    assert [(group["lr"], group["weight_decay"]) for group in made.param_groups] == [(1e-3, 0.1), (1e-2, 0.0)]


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ConfigError, match="no effect without"):
        run(optim.sgd, nesterov=True)


def test_three_betas_are_refused():
    with pytest.raises(ConfigError, match="takes 2 numbers, not 3"):
        run(optim.adamw, betas=[0.9, 0.99, 0.9])


def test_timms_sgd_by_name_is_nesterovs():
    assert_close(run(optim.by_timm_name, name="sgd"), run(optim.sgd, momentum=0.9, nesterov=True))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"name": "adamm"}, "Nearest: adam"),
        ({"name": "adahessian"}, "second derivatives"),
        ({"name": "bnbadam8bit"}, "bitsandbytes"),
        ({"name": "fusedadam"}, "apex"),
        ({"name": "kron"}, "differently after a checkpoint"),
        ({"name": "lion", "eps": 1e-6}, "optimizer.eps: timm's lion has no such key"),
        ({"name": "adan", "betas": BETAS}, "adan takes 3 numbers, not 2"),
    ],
)
def test_what_timm_cannot_do_in_a_plain_step_is_refused_by_name(keys, told):
    with pytest.raises(ConfigError, match=told):
        run(optim.by_timm_name, **keys)


ACCEPTED = [
    name for name in timm.optim.list_optimizers() if not str(name).startswith(("adahessian", "bnb", "fused", "kron"))
]


def make_small(name: str, state: dict[str, torch.Tensor] | None = None):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 3))
    if state:
        net.load_state_dict(state)
    groups = [{"params": [p], "lr": 1e-3 * (i + 1), "weight_decay": 0.01} for i, p in enumerate(net.parameters())]
    return net, optim.by_timm_name(groups, 1e-3, 0.01, name)


def take_steps(net, optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        net(images).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_accepted_timm_optimizer_moves_all_weights_and_resumes_exactly(name):
    net, optimizer = make_small(name)
    start = copy.deepcopy(net.state_dict())
    take_steps(net, optimizer, range(2))
    assert all(not torch.equal(tensor, start[key]) for key, tensor in net.state_dict().items())
    other, resumed = make_small(name, copy.deepcopy(net.state_dict()))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take_steps(net, optimizer, range(2, 4))
    take_steps(other, resumed, range(2, 4))
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in net.state_dict().items())
