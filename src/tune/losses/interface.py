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


class SeveralTerms(Loss):
    """A loss that is the sum of named terms, each logged by its name, so that one which drowns the others is seen.

    Attributes:
        shapes_embedding: whether a term reads `output.embedding`; then something must train in front of it, row
            weights and mixed labels do not reach it, and retrieval is measured on validation and test rows.
        rows_per_class: rows of a class that share a batch; 0: any rows will do.
    """

    shapes_embedding: bool = False
    rows_per_class: int = 0

    @abstractmethod
    def terms(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Each term by name, a scalar; the one on the logits is called "loss"."""

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """The sum, a scalar."""
        return torch.stack(list(self.terms(output, batch).values())).sum()


def loss_terms(loss: Loss, output: Output, batch: Batch) -> dict[str, Tensor]:
    """The terms of a loss by name; those that have no names are one, called "loss"."""
    return loss.terms(output, batch) if isinstance(loss, SeveralTerms) else {"loss": loss(output, batch)}


class Penalty(ABC):
    """What the network pays for its weights, added to the loss."""

    @abstractmethod
    def __call__(self, network: nn.Module) -> Tensor:
        """A scalar."""


def weighted_mean(row_loss: Tensor, weights: Tensor) -> Tensor:
    """Mean of `row_loss` (B,) weighted by `weights` (B,); 0 if no row has weight."""
    return (row_loss * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
