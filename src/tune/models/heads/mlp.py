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
        self.hidden = hidden_layers(feature_dim, hidden, activation, dropout)
        self.linear = output_layer(hidden[-1], num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E), dropout applied, and logits (B, K)."""
        embedding = self.hidden(features)  # (B, E)
        return embedding, self.linear(embedding)  # (B, K)


def hidden_layers(num_inputs: int, hidden: list[int], activation: Activation, dropout: float) -> nn.Sequential:
    """Hidden layers of so many units, with dropout in front of each and behind the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip([num_inputs, *hidden], hidden, strict=False):
        linear = nn.Linear(inputs, outputs_for(outputs, activation))
        layers += [KeyedDropout(dropout), linear, activation_module(activation)]
    return nn.Sequential(*layers, KeyedDropout(dropout))
