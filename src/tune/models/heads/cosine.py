from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

import torch.nn.functional as F
from torch import nn

from tune.models.heads.dropout import KeyedDropout
from tune.models.interface import Head
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class CosineHead(Head):
    """The cosine between the features and one direction per class, times a factor: lengths do not count.

    Source: Gidaris and Komodakis 2018, "Dynamic Few-Shot Visual Learning without Forgetting", eq. 3. Their factor is
    learned, ours is fixed.

    Args:
        feature_dim: D, from the backbone.
        num_classes: K, from the data.
        scale: the factor; the sharper, the larger.
        dropout: share of the features that are dropped in training, from `regularize.dropout`.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        scale: Annotated[float, Range("(0, inf)")] = 16.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.dropout = KeyedDropout(dropout)
        self.linear = nn.Linear(feature_dim, num_classes, bias=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E) of length 1, and logits (B, K) between -scale and scale."""
        embedding = F.normalize(self.dropout(features), dim=1)  # (B, D)
        return embedding, self.scale * F.linear(embedding, F.normalize(self.linear.weight, dim=1))  # (B, K)
