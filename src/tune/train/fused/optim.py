"""K optimizers of one kind that step together: parameters stacked, hyper-parameters as vectors.

The rules and the order of their operations are torch's own (torch.optim, single-tensor form), so that each of the K
ends where it would have ended alone, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tune.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.optim import Optimizer


class CannotFuse(RunError):
    """These trials cannot train as one; each can alone."""


class StackedOptimizer:
    """Steps stacked parameters as K optimizers would step theirs.

    Args:
        params: each (K, …); they get new values in place.
        optimizers: of torch, one for each of the K; of one class, and alike in what is no number. Each holds one group,
            from which the numbers are read; its rate is given in each step, its weight decay is for what has more than
            one dimension.

    Raises:
        CannotFuse: if there is no rule for their class, or they are not alike.
    """

    def __init__(self, params: Sequence[Tensor], optimizers: Sequence[Optimizer]) -> None:
        kinds = {type(optimizer) for optimizer in optimizers}
        self.kind = kinds.pop()
        if kinds or self.kind not in _RULES:
            raise CannotFuse(f"there is no fused form of {self.kind.__name__}")
        self.params = list(params)
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        self.numbers = _numbers(groups, _NUMBERS[self.kind])
        self.flags: dict[str, Any] = {name: groups[0][name] for name in _FLAGS.get(self.kind, ())}
        if any(group[name] != flag for group in groups for name, flag in self.flags.items()):
            raise CannotFuse(f"{', '.join(self.flags)} must be the same in all trials")
        self.steps = 0
        self.state: list[dict[str, Tensor]] = [{} for _ in self.params]

    @torch.no_grad()
    def step(self, rates: Tensor) -> None:
        """One step along the gradients.

        Args:
            rates: (K,) float64, the rate of each.
        """
        self.steps += 1
        rates = rates.cpu()
        for param, state in zip(self.params, self.state, strict=True):
            if param.grad is not None:
                # (K,) and (K, D) are numbers and vectors of a trial, which no decay pulls.
                numbers = self.numbers if param.ndim > 2 else self.numbers | {"weight_decay": 0.0}
                _RULES[self.kind](_Step(param, param.grad, state, rates, self.steps, numbers, self.flags))

    def keep(self, params: Sequence[Tensor], alive: Tensor) -> None:
        """Go on with some of the K.

        Args:
            params: of those, in their order.
            alive: (k,) their numbers.
        """
        self.params = list(params)
        self.numbers = {
            name: number[alive] if isinstance(number, Tensor) else number for name, number in self.numbers.items()
        }
        self.state = [{name: tensor[alive] for name, tensor in state.items()} for state in self.state]


Number = float | Tensor
"""A hyper-parameter: the same in all trials, or (K,) float64."""


def _column(values: Sequence[float]) -> Number:
    same = all(value == values[0] for value in values)
    return float(values[0]) if same else torch.tensor(values, dtype=torch.float64)


def _numbers(groups: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Number]:
    columns: dict[str, Number] = {}
    for name in names:
        values = [group[name] for group in groups]
        if name == "betas":
            columns |= {f"beta{i + 1}": _column([pair[i] for pair in values]) for i in (0, 1)}
        else:
            columns[name] = _column(values)
    return columns


@dataclass
class _Step:
    """One stacked parameter in one step.

    Args:
        param: (K, …), changed in place.
        grad: (K, …).
        state: what its rule remembers.
        rate: (K,) float64.
        count: number of this step, from 1.
        numbers: hyper-parameters.
        flags: hyper-parameters that all trials share.
    """

    param: Tensor
    grad: Tensor
    state: dict[str, Tensor]
    rate: Tensor
    count: int
    numbers: Mapping[str, Number]
    flags: dict[str, Any]

    def shaped(self, number: Number) -> Any:
        """A number as what multiplies (K, …)."""
        if isinstance(number, Tensor):
            return number.to(self.param).reshape(-1, *[1] * (self.param.ndim - 1))
        return number

    def number(self, name: str) -> Any:
        """A hyper-parameter, shaped."""
        return self.shaped(self.numbers[name])

    def decayed(self) -> Tensor:
        """The gradient with weight decay."""
        decay = self.number("weight_decay")
        return self.grad if isinstance(decay, float) and decay == 0 else self.grad + decay * self.param

    def remember(self, *names: str) -> None:
        """Start what the rule remembers from zero."""
        if not self.state:
            self.state |= {name: torch.zeros_like(self.param) for name in names}

    def follow(self, square: Tensor, grad: Tensor, keep: Number) -> None:
        """square = keep * square + (1 - keep) * grad^2."""
        new = self.shaped(1 - keep)
        square.mul_(self.shaped(keep))
        if isinstance(new, float):
            square.addcmul_(grad, grad, value=new)
        else:
            square.add_(new * (grad * grad))

    def down(self, direction: Tensor, rate: Tensor) -> None:
        """param -= rate * direction."""
        self.param.addcmul_(direction, self.shaped(-rate))


def _sgd(step: _Step) -> None:
    grad, momentum = step.decayed(), step.number("momentum")
    if not isinstance(momentum, float) or momentum:
        seen = step.state.get("v")
        velocity = step.state["v"] = grad.clone() if seen is None else seen.mul_(momentum).add_(grad)
        ahead = step.number("nesterov")
        grad = (
            velocity
            if isinstance(ahead, float) and not ahead
            else ahead * (grad + momentum * velocity) + (1 - ahead) * velocity
        )
    step.down(grad, step.rate)


def _adagrad(step: _Step) -> None:
    grad, numbers = step.decayed(), step.numbers
    if not step.state:
        step.state["sum"] = torch.zeros_like(step.param) + step.number("initial_accumulator_value")
    total = step.state["sum"].addcmul_(grad, grad)
    step.down(grad / (total.sqrt() + step.number("eps")), step.rate / (1 + (step.count - 1) * numbers["lr_decay"]))


def _rmsprop(step: _Step) -> None:
    grad, alpha = step.decayed(), step.numbers["alpha"]
    step.remember("square", "v", "mean")
    square, velocity = step.state["square"], step.state["v"]
    step.follow(square, grad, alpha)
    if step.flags["centered"]:
        step.state["mean"].lerp_(grad, step.shaped(1 - alpha))
        square = square - step.state["mean"] ** 2
    velocity.mul_(step.number("momentum")).add_(grad / (square.sqrt() + step.number("eps")))
    step.down(velocity, step.rate)


def _adam(step: _Step) -> None:
    _adam_with(step, step.decayed())


def _adamw(step: _Step) -> None:
    decay = step.numbers["weight_decay"]
    if not isinstance(decay, float) or decay:
        step.param.mul_(step.shaped(1 - step.rate * decay))
    _adam_with(step, step.grad)


def _adam_with(step: _Step, grad: Tensor) -> None:
    first, second = step.numbers["beta1"], step.numbers["beta2"]
    step.remember("mean", "square", *(["largest"] if step.flags["amsgrad"] else []))
    mean, square = step.state["mean"], step.state["square"]
    mean.lerp_(grad, step.shaped(1 - first))
    step.follow(square, grad, second)
    if step.flags["amsgrad"]:
        square = torch.maximum(step.state["largest"], square, out=step.state["largest"])
    scale = step.shaped((1 - second**step.count) ** 0.5)
    denominator = square.sqrt().div_(scale).add_(step.number("eps"))
    step.down(mean / denominator, step.rate / (1 - first**step.count))


_RULES = {
    torch.optim.SGD: _sgd,
    torch.optim.Adagrad: _adagrad,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adamw,
}
_NUMBERS = {
    torch.optim.SGD: ("weight_decay", "momentum", "nesterov"),
    torch.optim.Adagrad: ("weight_decay", "eps", "lr_decay", "initial_accumulator_value"),
    torch.optim.RMSprop: ("weight_decay", "alpha", "eps", "momentum"),
    torch.optim.Adam: ("weight_decay", "betas", "eps"),
    torch.optim.AdamW: ("weight_decay", "betas", "eps"),
}
_FLAGS = {torch.optim.RMSprop: ("centered",), torch.optim.Adam: ("amsgrad",), torch.optim.AdamW: ("amsgrad",)}
