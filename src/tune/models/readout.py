"""How the last map of a backbone becomes one row of features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["model", "average", "max", "average_max", "gem", "flatten"]


@final
class Readout(nn.Module):
    """Features of a map: (B, C, H, W) → (B, C); twice as many for average_max, (B, C · H · W) for flatten.

    `gem` is the generalised mean ``(mean x^p)^(1/p)`` of x cut off at 1e-6: p = 1 is the average, p → ∞ the maximum.
    Radenović et al. 2018, "Fine-Tuning CNN Image Retrieval with No Human Annotation", eq. 2. Their p is learned,
    ours is fixed. `average_max` has both, one behind the other.

    Args:
        kind: which.
        power: p of gem.
        channels_last: whether the map comes as (B, H, W, C).
    """

    def __init__(self, kind: Kind, power: float, channels_last: bool) -> None:
        super().__init__()
        self.kind, self.power, self.channels_last = kind, power, channels_last

    def forward(self, maps: Tensor) -> Tensor:
        if self.channels_last:
            maps = maps.permute(0, 3, 1, 2)
        if self.kind == "flatten":
            return maps.flatten(1)
        if self.kind == "gem":
            return maps.clamp_min(1e-6).pow(self.power).mean((2, 3)).pow(1 / self.power)
        if self.kind == "average":
            return maps.mean((2, 3))
        if self.kind == "max":
            return maps.amax((2, 3))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
