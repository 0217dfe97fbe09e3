from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

import torch

from tune.errors import ConfigError
from tune.losses.interface import Loss, weighted_mean
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


@final
class LogitAdjustment(Loss):
    """Cross-entropy of logits to which the log share of each class is added, so that rare classes get a wider margin.

    Row loss: ``-sum_k t_k * log softmax(logits + tau * log share)_k``, t = ``batch.label_probs``, share = that of the
    class among the training rows. What is predicted stays the largest logit, without the shares: with ``tau = 1`` that
    aims at balanced accuracy. ``tau = 0`` is plain cross-entropy.

    Source: Menon et al. 2021, "Long-tail Learning via Logit Adjustment", eq. 10. The same.

    Args:
        class_counts: training rows of each class, from the data.
        tau: factor on the log shares.

    Raises:
        ConfigError: if a class has no training row.
    """

    def __init__(self, class_counts: list[int], tau: Annotated[float, Range("[0, inf)")] = 1.0) -> None:
        if 0 in class_counts:
            raise ConfigError(
                f"loss: class {class_counts.index(0)} has no training row, so its share has no logarithm."
            )
        counts = torch.tensor(class_counts, dtype=torch.float32)
        self.shift = tau * (counts / counts.sum()).log()  # (K,)

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Mean loss, a scalar. Reads ``output.logits`` (B, K), ``batch.label_probs`` (B, K), ``batch.weights`` (B,)."""
        self.shift = self.shift.to(output.logits.device)  # copies in the first step only
        row_loss = -(batch.label_probs * (output.logits + self.shift).log_softmax(dim=1)).sum(dim=1)  # (B,)
        return weighted_mean(row_loss, batch.weights)
