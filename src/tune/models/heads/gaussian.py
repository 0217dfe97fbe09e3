from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import nn

from tune.models.heads.dropout import KeyedDropout
from tune.models.interface import Head

if TYPE_CHECKING:
    from torch import Tensor


@final
class GaussianHead(Head):
    """A Gaussian unit per class: minus half the squared distance between the features and the class's prototype.

    The softmax over it is the posterior of classes with Gaussian features of unit variance. Prototypes start as vectors
    of -1 and 1, drawn at random, and learn.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", eq. 7. Theirs were fixed
    bitmaps of 7 × 12 pixels, and the output was the distance; ours is half of it, negated, by number of features, so
    that the first loss stays near ln K.

    Args:
        feature_dim: D, from the backbone.
        num_classes: K, from the data.
        dropout: share of the features that are dropped in training, from `regularize.dropout`.
    """

    def __init__(self, feature_dim: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = KeyedDropout(dropout)
        self.prototypes = nn.Parameter(torch.randint(0, 2, (num_classes, feature_dim)).float() * 2 - 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E), dropout applied, and logits (B, K)."""
        embedding = self.dropout(features)  # (B, D)
        squares = (embedding[:, None] - self.prototypes).square().mean(dim=2)  # (B, K)
        return embedding, -squares / 2
