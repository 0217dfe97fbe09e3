from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from pytorch_metric_learning import losses

from tune.losses.between_rows import BetweenRows
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class Contrastive(BetweenRows):
    """Cross-entropy, and distances between all pairs of a batch: none within a class, at least `margin` between two.

    Term "contrastive", in training only: ``strength * (mean d of pairs of one class + mean max(0, margin - d) of pairs
    of two)``, d = distance of embeddings of length 1; the means are over pairs with a loss above 0.

    Source: Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant Mapping", eq. 4; the code is
    pytorch-metric-learning's `ContrastiveLoss`. They square both distances and halve the sum.

    Args:
        margin: distance beyond which rows of two classes no longer push each other away.
        strength: factor on the term.
        cross_entropy: factor on the cross-entropy; 0 only as a part of ``loss=mixture``.
        rows_per_class: rows of a class that share a batch; the batch size must be a multiple of it.
    """

    term = "contrastive"

    def __init__(
        self,
        margin: Annotated[float, Range("(0, 2]")] = 1.0,
        strength: Annotated[float, Range("(0, inf)")] = 1.0,
        cross_entropy: Annotated[float, Range("[0, inf)")] = 1.0,
        rows_per_class: Annotated[int, Range("[2, inf)")] = 4,
    ) -> None:
        super().__init__(strength, cross_entropy, rows_per_class)
        self.pull = losses.ContrastiveLoss(pos_margin=0, neg_margin=margin)  # pyright: ignore[reportArgumentType]  # typed as an int

    def between(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return self.pull(embedding, labels)
