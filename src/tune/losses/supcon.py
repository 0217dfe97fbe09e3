from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from pytorch_metric_learning import losses
from torch import nn

from tune.losses.cross_entropy import beside_cross_entropy
from tune.losses.interface import SeveralTerms
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


@final
class SupCon(SeveralTerms, nn.Module):
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

    shapes_embedding = True

    def __init__(
        self,
        temperature: Annotated[float, Range("(0, inf)")] = 0.1,
        strength: Annotated[float, Range("(0, inf)")] = 1.0,
        cross_entropy: Annotated[float, Range("[0, inf)")] = 1.0,
        rows_per_class: Annotated[int, Range("[2, inf)")] = 4,
    ) -> None:
        super().__init__()
        self.strength, self.cross_entropy, self.rows_per_class = strength, cross_entropy, rows_per_class
        self.pull = losses.SupConLoss(temperature=temperature)

    def terms(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Reads `logits`, `embedding` (B, E), `label_probs`, `labels`, `weights`."""
        if not self.training:
            return beside_cross_entropy(self.cross_entropy, output, batch)
        found = self.pull(output.embedding.float(), batch.labels)
        return beside_cross_entropy(self.cross_entropy, output, batch, supcon=self.strength * found)
