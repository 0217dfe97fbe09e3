"""Penalties on the size of the weights.

They see the weights that train: parameters that require a gradient and have more than one dimension. Biases and the
scales and shifts of norms have one, and stay free; so does what is frozen, which a penalty could not move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, final

import torch

from tune.errors import ConfigError, Problem
from tune.losses.interface import Penalty
from tune.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn


@final
class L1(Penalty):
    """``strength * sum |w|`` over the weights that train: drives the least useful ones towards zero."""

    def __init__(self, strength: Annotated[float, Range("[0, inf)")]) -> None:
        self.strength = strength

    def __call__(self, network: nn.Module) -> Tensor:
        """A scalar; 0 if nothing trains."""
        return self.strength * _sum_over_weights(network, torch.abs)


@final
class L2(Penalty):
    """``strength / 2 * sum w^2`` over the weights that train; its gradient is ``strength * w``.

    With plain SGD this is the same as a weight decay of `strength`; with Adam it is not, as the gradient is rescaled.
    """

    def __init__(self, strength: Annotated[float, Range("[0, inf)")]) -> None:
        self.strength = strength

    def __call__(self, network: nn.Module) -> Tensor:
        """A scalar; 0 if nothing trains."""
        return self.strength / 2 * _sum_over_weights(network, torch.square)


@final
class L2SP(Penalty):
    """``strength / 2 * sum (w - w0)^2`` over a backbone's weights that train; w0 is what they started from.

    Source: Li et al. 2018, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", eq. 3. Its
    second term, on the new layers, is what `regularize.l2` adds; theirs has a strength of its own.

    Args:
        strength: α of the paper.
        backbone: as it starts; its weights are copied.
    """

    def __init__(self, strength: Annotated[float, Range("[0, inf)")], backbone: nn.Module) -> None:
        self.strength = strength
        self.start = {name: w.detach().clone() for name, w in backbone.named_parameters() if w.ndim > 1}

    def __call__(self, network: nn.Module) -> Tensor:
        """A scalar; 0 while nothing of the backbone trains."""
        total = next(network.parameters()).new_zeros(())
        for name, weight in network.get_submodule("backbone").named_parameters():
            if weight.requires_grad and name in self.start:
                self.start[name] = self.start[name].to(weight.device)  # copies in the first step only
                total = total + (weight - self.start[name]).square().sum()
        return self.strength / 2 * total


def penalties_of(l1: float, l2: float, l2_sp: float, network: Any, backbone_trains: bool) -> dict[str, Penalty]:
    """Penalties with a strength, by name.

    Args:
        l1: strength.
        l2: strength.
        l2_sp: strength.
        network: with a `backbone`, as it starts.
        backbone_trains: whether a layer of it ever trains.

    Raises:
        ConfigError: if `l2_sp` has no effect.
    """
    found: dict[str, Penalty] = {}
    if l1:
        found["l1"] = L1(l1)
    if l2:
        found["l2"] = L2(l2)
    if l2_sp:
        if not network.backbone.weights_digest or not backbone_trains:
            why = "is not trained" if network.backbone.weights_digest else "has no weights to stay near to"
            raise ConfigError(Problem("regularize.l2_sp", f"has no effect: the backbone {why}"))
        found["l2_sp"] = L2SP(l2_sp, network.backbone)
    return found


def share_at_zero(weights: Iterable[Tensor]) -> float:
    """Share of weights with an absolute value below 1e-4, of tensors with more than one dimension."""
    wide = [weight.detach().abs() for weight in weights if weight.ndim > 1]
    return float(sum(int((weight < 1e-4).sum()) for weight in wide) / max(1, sum(weight.numel() for weight in wide)))


def _sum_over_weights(network: nn.Module, each: Callable[[Tensor], Tensor]) -> Tensor:
    weights = [weight for weight in network.parameters() if weight.requires_grad and weight.ndim > 1]
    if not weights:
        return next(network.parameters()).new_zeros(())
    return torch.stack([each(weight).sum() for weight in weights]).sum()
