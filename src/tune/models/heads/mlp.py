from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from torch import nn

from tune.errors import ConfigError
from tune.models.activations import Activation, activation_module, outputs_for
from tune.models.heads.dropout import KeyedDropout
from tune.models.heads.linear import output_layer
from tune.models.interface import Head
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class MlpHead(Head):
    """Hidden layers before the last linear one; dropout in front of every linear layer.

    Args:
        feature_dim: D, from the backbone.
        num_classes: K, from the data.
        hidden: number of units of each hidden layer, from the backbone to the output.
        activation: after each hidden layer; a maxout unit has two linear maps to choose from.
        dropout: share of each linear layer's inputs that are dropped in training, from `regularize.dropout`.

    Raises:
        ConfigError: if there is no hidden layer, or an empty one.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        hidden: list[Annotated[int, Range("[1, inf)")]],
        activation: Activation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ConfigError(f"head.hidden: {hidden} must hold positive numbers of units. Without any: head=linear.")
        layers: list[nn.Module] = []
        for num_inputs, num_outputs in zip([feature_dim, *hidden], hidden, strict=False):
            linear = nn.Linear(num_inputs, outputs_for(num_outputs, activation))
            layers += [KeyedDropout(dropout), linear, activation_module(activation)]
        self.hidden = nn.Sequential(*layers, KeyedDropout(dropout))
        self.linear = output_layer(hidden[-1], num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E), dropout applied, and logits (B, K)."""
        embedding = self.hidden(features)  # (B, E)
        return embedding, self.linear(embedding)  # (B, K)
