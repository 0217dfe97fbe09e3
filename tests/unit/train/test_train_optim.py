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


@pytest.mark.parametrize("make", [optim.adam, optim.adamw])
def test_amsgrad_divides_by_the_largest_mean_square_so_far(make):
    w, m, largest = 1.5, 0.0, 0.0
    for step in range(1, STEPS + 1):
        g = 2 * w + (0 if make is optim.adamw else DECAY * w)
        if make is optim.adamw:
            w -= LR * DECAY * w
        m = 0.8 * m + 0.2 * g
        largest = max(largest, g * g)  # the second beta is 0
        w -= LR * (m / (1 - 0.8**step)) / (math.sqrt(largest) + 1e-8)
    assert_close(run(make, betas=[0.8, 0.0], amsgrad=True), w)
    assert run(make, betas=[0.8, 0.0]) != pytest.approx(w, abs=1e-4)


def quadratic(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A and b of w'Aw / 2 - b'w with positive curvature everywhere."""
    torch.manual_seed(0)
    root = torch.randn(size, size, dtype=torch.float64)
    return root @ root.T + torch.eye(size, dtype=torch.float64), torch.randn(size, dtype=torch.float64)


@pytest.mark.parametrize("history", [2, 10])
def test_lbfgs_goes_where_the_dense_matrix_of_bfgs_points(history):
    curvature, linear = quadratic(6)
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = optim.lbfgs([{"params": [weight], "lr": 1.0, "name": "head"}], 1.0, 0.0, max_iter=1, history=history)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = weight @ curvature @ weight / 2 - linear @ weight
        value.backward()
        return value

    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(5):
        start = weight.detach().clone()
        gradient = curvature @ start - linear
        inverse = torch.eye(6, dtype=torch.float64)
        if pairs:  # Nocedal and Wright, eq. 7.20 and 6.17
            s, y = pairs[-1]
            inverse *= (s @ y) / (y @ y)
        for s, y in pairs[-history:]:
            turn = torch.eye(6, dtype=torch.float64) - torch.outer(y, s) / (y @ s)
            inverse = turn.T @ inverse @ turn + torch.outer(s, s) / (y @ s)
        optimizer.step(loss)
        moved, wanted = weight.detach() - start, -inverse @ gradient
        assert_close(moved / moved.norm(), wanted / wanted.norm())
        pairs.append((moved, curvature @ moved))


def test_lbfgs_finds_the_best_softmax_regression_that_newton_finds():
    torch.manual_seed(0)
    features, labels = torch.randn(60, 4, dtype=torch.float64), torch.arange(60) % 3

    def value(flat: torch.Tensor) -> torch.Tensor:
        logits = features @ flat.view(3, 4).T
        return torch.nn.functional.cross_entropy(logits, labels) + 0.05 * flat.square().sum()

    best = torch.zeros(12, dtype=torch.float64)
    for _ in range(20):
        gradient = torch.autograd.functional.jacobian(value, best)
        best -= torch.linalg.solve(torch.autograd.functional.hessian(value, best), gradient)
    weight = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    optimizer = optim.lbfgs([{"params": [weight], "lr": 1.0, "name": "head"}], 1.0, 0.0)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        found = value(weight.flatten())
        found.backward()
        return found

    optimizer.step(loss)
    assert_close(weight.detach().flatten(), best, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("groups", "decay", "told"),
    [
        ([{"lr": 1.0}], 0.1, "regularize.l2 is the same"),
        ([{"lr": 1.0}, {"lr": 0.1}], 0.0, "one rate for all"),
    ],
)
def test_what_lbfgs_cannot_do_is_refused(groups, decay, told):
    made = [{"params": [torch.zeros(1, requires_grad=True)], "name": "head", **group} for group in groups]
    with pytest.raises(ConfigError, match=told):
        optim.lbfgs(made, 1.0, decay)


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
