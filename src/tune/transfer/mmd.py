from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

from tune.losses.interface import loss_terms
from tune.ranges import Range
from tune.transfer.discrepancy.mmd import mmd
from tune.transfer.interface import Transfer
from tune.transfer.together import apart, both

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network


@final
class Mmd(Transfer):
    """The loss on the source, and the distance of both domains' embeddings under several Gaussian kernels.

    Term "mmd": ``strength * MMD²`` of the embeddings (B, E) of a batch of each, see `tune.transfer.discrepancy.mmd`.

    Source: Long et al. 2015, "Learning Transferable Features with Deep Adaptation Networks", eq. 4, with one adapted
    layer, the input of the last linear one.

    Args:
        strength: of the term, > 0; the paper tries 0.1 to 2.
    """

    shapes_embedding = True
    takes_target = True

    def __init__(self, strength: Annotated[float, Range("(0, inf)")] = 1.0) -> None:
        self.strength = strength

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        source, target = both(network, batches)
        terms = loss_terms(self.loss, source, batches["source"])
        return {**terms, "mmd": self.strength * apart(mmd, source, target)}
