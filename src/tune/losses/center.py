from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

import torch
from torch import nn

from tune.losses.cross_entropy import beside_cross_entropy
from tune.losses.interface import SeveralTerms, weighted_mean
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


@final
class Center(SeveralTerms, nn.Module):
    """Cross-entropy, and the distance of each embedding from the centre of its class.

    Term "center", in training only: ``strength / 2 * mean |x - c_y|^2``, x = embedding. After each batch every centre
    moves by ``alpha * sum of (x - c) / (1 + n)`` over its n rows; centres start at zero and are part of a checkpoint.

    Source: Wen et al. 2016, "A Discriminative Feature Learning Approach for Deep Face Recognition", eq. 2, 4 and 5.
    They sum over the batch in both terms, we take the mean of both, which leaves their ratio.

    Args:
        num_classes: K, from the data.
        embedding_dim: E, from the head.
        strength: λ of the paper.
        alpha: how far centres follow their rows, from 0 to 1.
        cross_entropy: factor on the cross-entropy; 0 only as a part of ``loss=mixture``.
    """

    shapes_embedding = True

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        strength: Annotated[float, Range("(0, inf)")] = 0.003,
        alpha: Annotated[float, Range("(0, 1]")] = 0.5,
        cross_entropy: Annotated[float, Range("[0, inf)")] = 1.0,
    ) -> None:
        super().__init__()
        self.strength, self.alpha, self.cross_entropy = strength, alpha, cross_entropy
        self.centers: Tensor
        self.register_buffer("centers", torch.zeros(num_classes, embedding_dim))

    def terms(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Reads `logits`, `embedding` (B, E), `label_probs`, `labels`, `weights`; moves the centres in training."""
        if not self.training:
            return beside_cross_entropy(self.cross_entropy, output, batch)
        offset = output.embedding.float() - self.centers[batch.labels]  # (B, E)
        distance = self.strength / 2 * weighted_mean(offset.square().sum(dim=1), batch.weights)
        self._follow(offset.detach(), batch.labels)
        return beside_cross_entropy(self.cross_entropy, output, batch, center=distance)

    def _follow(self, offset: Tensor, labels: Tensor) -> None:
        sums = torch.zeros_like(self.centers).index_add_(0, labels, offset)  # (K, E)
        rows = torch.bincount(labels, minlength=len(sums)).to(sums.dtype)  # (K,)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(rows)
        self.centers += self.alpha * sums / (1 + rows[:, None])
