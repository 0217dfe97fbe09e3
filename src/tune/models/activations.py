"""Activations by name, for heads and for networks that are put together from a YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "maxout"]

PIECES = 2
"""Linear maps that a maxout unit chooses from."""

_MODULES = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


@final
class Maxout(nn.Module):
    """The largest of each `pieces` neighbouring channels: (B, units · pieces, …) → (B, units, …).

    Source: Goodfellow et al. 2013, "Maxout Networks", section 2. The same, behind one layer of that many outputs.
    """

    def __init__(self, pieces: int = PIECES) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, values: Tensor) -> Tensor:
        return values.unflatten(1, (-1, self.pieces)).amax(dim=2)


def activation_module(name: Activation) -> nn.Module:
    """A new module of the activation."""
    return Maxout() if name == "maxout" else _MODULES[name]()


def outputs_for(units: int, activation: Activation) -> int:
    """How many outputs the layer in front of the activation needs, so that `units` come out behind it."""
    return units * PIECES if activation == "maxout" else units
