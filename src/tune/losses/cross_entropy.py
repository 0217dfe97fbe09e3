from __future__ import annotations

from typing import TYPE_CHECKING, final

from tune.losses.interface import Loss, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


@final
class CrossEntropy(Loss):
    """Cross-entropy between what the network says and the label.

    Row loss: ``-sum_k t_k * log p_k``, t = ``batch.label_probs``; mean over rows, weighted by ``batch.weights``.
    """

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Mean loss, a scalar. Reads ``output.logits`` (B, K), ``batch.label_probs`` (B, K), ``batch.weights`` (B,)."""
        row_loss = -(batch.label_probs * output.logits.log_softmax(dim=1)).sum(dim=1)  # (B,)
        return weighted_mean(row_loss, batch.weights)


def beside_cross_entropy(share: float, output: Output, batch: Batch, **terms: Tensor) -> dict[str, Tensor]:
    """`share` times cross-entropy as "loss", where there is a share of it, and the other terms of a sum."""
    return ({"loss": share * CrossEntropy()(output, batch)} if share else {}) | terms
