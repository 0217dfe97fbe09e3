from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, final

from pytorch_metric_learning import losses, miners

from tune.losses.between_rows import BetweenRows
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class Triplet(BetweenRows):
    """Cross-entropy, and a margin between rows of the same class and rows of another.

    Term "triplet", in training only: ``strength * mean max(0, |a - p| - |a - n| + margin)`` over triplets of a batch
    that do not have the margin yet, of embeddings of length 1; a and p are of one class, n of another.

    Source: Schroff et al. 2015, "FaceNet", eq. 2 and 3; the code is pytorch-metric-learning's `TripletMarginLoss`
    behind its `TripletMarginMiner`. They square the distances, it does not.

    Args:
        margin: by how much n must be farther away than p.
        triplets: which are used: all, those with n beyond p but within the margin (semihard), those with n before p
            (hard), or those with n beyond the margin, whose loss is zero but for rounding (easy, to debug with).
        strength: factor on the term.
        cross_entropy: factor on the cross-entropy; 0 only as a part of ``loss=mixture``.
        rows_per_class: rows of a class that share a batch; the batch size must be a multiple of it.
    """

    term = "triplet"

    def __init__(
        self,
        margin: Annotated[float, Range("(0, 2]")] = 0.2,
        triplets: Literal["all", "semihard", "hard", "easy"] = "semihard",
        strength: Annotated[float, Range("(0, inf)")] = 1.0,
        cross_entropy: Annotated[float, Range("[0, inf)")] = 1.0,
        rows_per_class: Annotated[int, Range("[2, inf)")] = 4,
    ) -> None:
        super().__init__(strength, cross_entropy, rows_per_class)
        self.miner = miners.TripletMarginMiner(margin=margin, type_of_triplets=triplets)
        self.pull = losses.TripletMarginLoss(margin=margin)

    def between(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return self.pull(embedding, labels, self.miner(embedding, labels))
