from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from pytorch_metric_learning import losses

from tune.losses.between_rows import BetweenRows
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class SupCon(BetweenRows):
    """Cross-entropy, and supervised contrast: each row should find its own class among all rows of the batch.

    Term "supcon", in training only: ``strength * mean over rows i of -1/|P(i)| * sum over p in P(i) of
    log(exp(z_i z_p / t) / sum over a != i of exp(z_i z_a / t))``; z = embedding at length 1, P(i) = the other rows of
    i's class.

    Source: Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2; the code is pytorch-metric-learning's
    `SupConLoss`. They train it alone on two views of each image, then a linear layer; we train both at once, on one.

    Args:
        temperature: t; smaller looks at the nearest rows more.
        strength: factor on the term.
        cross_entropy: factor on the cross-entropy; 0 only as a part of ``loss=mixture``.
        rows_per_class: rows of a class that share a batch; the batch size must be a multiple of it.
    """

    term = "supcon"

    def __init__(
        self,
        temperature: Annotated[float, Range("(0, inf)")] = 0.1,
        strength: Annotated[float, Range("(0, inf)")] = 1.0,
        cross_entropy: Annotated[float, Range("[0, inf)")] = 1.0,
        rows_per_class: Annotated[int, Range("[2, inf)")] = 4,
    ) -> None:
        super().__init__(strength, cross_entropy, rows_per_class)
        self.pull = losses.SupConLoss(temperature=temperature)

    def between(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return self.pull(embedding, labels)
