from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

import torch

from tune.losses.interface import Loss, weighted_mean
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


@final
class Focal(Loss):
    """Cross-entropy that turns down rows already classified well.

    Row loss: ``-sum_k t_k * (1 - p_k)^gamma * log p_k``, t = ``batch.label_probs``; mean over rows, weighted by
    ``batch.weights``. ``gamma = 0`` is plain cross-entropy.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 4. We drop their alpha (use `loss=weighted`)
    and sum over classes, which is the same for hard labels and defined for smoothed and mixed ones.

    Args:
        gamma: focus; the paper uses 2, useful range 0.5-5.
    """

    def __init__(self, gamma: Annotated[float, Range("[0, inf)")] = 2.0) -> None:
        self.gamma = gamma

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Mean loss, a scalar. Reads ``output.logits`` (B, K), ``batch.label_probs`` (B, K), ``batch.weights`` (B,)."""
        log_p = output.logits.log_softmax(dim=1)  # (B, K)
        # The power of an exact zero has an infinite slope when gamma < 1.
        wrong = -torch.expm1(log_p).clamp_max(-1e-12)  # (B, K), 1 - p
        row_loss = -(batch.label_probs * wrong**self.gamma * log_p).sum(dim=1)  # (B,)
        return weighted_mean(row_loss, batch.weights)
