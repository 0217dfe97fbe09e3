from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


@final
class Align(nn.Module):
    """Moves features (B, D) of the target so that each has the mean and deviation that it has in the source.

    ``x -> (x - mean_t) / std_t * std_s + mean_s``, per feature; one that hardly varies in the target (less than a
    thousandth of what it does in the source) becomes the source's mean. Nothing changes until `fit`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(feature_dim))
        self.register_buffer("shift", torch.zeros(feature_dim))

    def fit(self, source: Tensor, target: Tensor) -> None:
        """Take the statistics of features of both domains, (N, D) each."""
        (source_std, source_mean), (std, mean) = (
            torch.std_mean(x.double(), dim=0, correction=0) for x in (source, target)
        )
        is_alive = std > 1e-3 * source_std
        scale = torch.where(is_alive, source_std / std.clamp_min(1e-12), 0.0)
        self.scale.copy_(scale)
        self.shift.copy_(source_mean - mean * scale)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.scale + self.shift
