from __future__ import annotations

from typing import TYPE_CHECKING, final

from tune.losses.interface import loss_terms
from tune.transfer.interface import Transfer, labelled

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network


@final
class FineTune(Transfer):
    """The loss on the labelled rows, term by term, and nothing beside it."""

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        batch = labelled(batches)
        return loss_terms(self.loss, network(batch.images), batch)
