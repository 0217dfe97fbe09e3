"""What a loss and a penalty promise, and the mean that all losses share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tune.batch import Batch, Output


class Loss(ABC):
    """How wrong the network is about a batch. Duck-typed: an nn.Module with the same call will do."""

    @abstractmethod
    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Mean loss, a scalar."""


class Penalty(ABC):
    """What the network pays for its weights, added to the loss."""

    @abstractmethod
    def __call__(self, network: nn.Module) -> Tensor:
        """A scalar."""


def weighted_mean(row_loss: Tensor, weights: Tensor) -> Tensor:
    """Mean of `row_loss` (B,) weighted by `weights` (B,); 0 if no row has weight."""
    return (row_loss * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
