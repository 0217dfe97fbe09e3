from __future__ import annotations

from typing import TYPE_CHECKING, final

from tune.transfer.interface import Transfer

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network


@final
class FineTune(Transfer):
    """The loss on the labelled rows, and nothing beside it."""

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        return {"loss": self.loss(network(batches["target"].images), batches["target"])}
