"""What losses that compare the rows of a batch have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import nn

from tune.losses.cross_entropy import beside_cross_entropy
from tune.losses.interface import SeveralTerms

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


class BetweenRows(SeveralTerms, nn.Module):
    """Cross-entropy, and in training a term on the embeddings of the rows of a batch.

    Attributes:
        term: its name.

    Args:
        strength: factor on it.
        cross_entropy: factor on the cross-entropy.
        rows_per_class: rows of a class that share a batch.
    """

    shapes_embedding = True
    term: str

    def __init__(self, strength: float, cross_entropy: float, rows_per_class: int) -> None:
        super().__init__()
        self.strength, self.cross_entropy, self.rows_per_class = strength, cross_entropy, rows_per_class

    @abstractmethod
    def between(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """The term, a scalar, of embeddings (B, E) and their labels (B,)."""

    def terms(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Reads `logits`, `embedding` (B, E), `label_probs`, `labels`, `weights`."""
        if not self.training:
            return beside_cross_entropy(self.cross_entropy, output, batch)
        found = self.strength * self.between(output.embedding.float(), batch.labels)
        return beside_cross_entropy(self.cross_entropy, output, batch, **{self.term: found})
