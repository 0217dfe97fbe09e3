"""Penalties on the size of the weights.

They see the weights that train: parameters that require a gradient and have more than one dimension. Biases and the
scales and shifts of norms have one, and stay free; so does what is frozen, which a penalty could not move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

import torch

from tune.losses.interface import Penalty
from tune.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Callable

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


def _sum_over_weights(network: nn.Module, each: Callable[[Tensor], Tensor]) -> Tensor:
    weights = [weight for weight in network.parameters() if weight.requires_grad and weight.ndim > 1]
    if not weights:
        return next(network.parameters()).new_zeros(())
    return torch.stack([each(weight).sum() for weight in weights]).sum()
