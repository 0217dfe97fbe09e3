from __future__ import annotations

from typing import TYPE_CHECKING, final

from torch import nn

from tune.models.heads.dropout import KeyedDropout
from tune.models.interface import Head

if TYPE_CHECKING:
    from torch import Tensor


@final
class LinearHead(Head):
    """One linear layer. Its weights start near zero (sd 0.01), so that the first loss is close to ln K.

    Args:
        feature_dim: D, from the backbone.
        num_classes: K, from the data.
        dropout: share of the features that are dropped in training, from `regularize.dropout`.
    """

    def __init__(self, feature_dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = KeyedDropout(dropout)
        self.linear = output_layer(feature_dim, num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E), dropout applied, and logits (B, K)."""
        embedding = self.dropout(features)  # (B, D)
        return embedding, self.linear(embedding)  # (B, K)


def output_layer(num_inputs: int, num_classes: int) -> nn.Linear:
    """A linear layer with weights of sd 0.01 and bias 0: at the start all classes are about equally likely."""
    layer = nn.Linear(num_inputs, num_classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
