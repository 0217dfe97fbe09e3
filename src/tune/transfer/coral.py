from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from tune.losses.interface import loss_terms
from tune.ranges import Range
from tune.transfer.discrepancy.coral import coral
from tune.transfer.interface import Transfer
from tune.transfer.together import apart, both

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network


@final
class Coral(Transfer):
    """The loss on the source, and the distance of both domains' covariances of the embedding.

    Term "coral": ``strength * |C_s - C_t|² / (4 E²)`` of the embeddings (B, E) of a batch of each, see
    `tune.transfer.discrepancy.coral`.

    Source: Sun and Saenko 2016, "Deep CORAL", eq. 6, with one layer, the input of the last linear one; they take its
    output.

    Args:
        strength: of the term, > 0; it is small, so that strengths of 1 to 1000 make sense.
    """

    shapes_embedding = True
    takes_target = True

    def __init__(self, strength: Annotated[float, Range("(0, inf)")] = 100.0) -> None:
        self.strength = strength

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        source, target = both(network, batches)
        terms = loss_terms(self.loss, source, batches["source"])
        return {**terms, "coral": self.strength * apart(coral, source, target)}
