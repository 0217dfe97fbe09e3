"""The three hooks of a transfer method. To add one: a file here and a YAML in conf/transfer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.losses.interface import Loss
    from tune.models.network import Network


class Transfer(ABC):
    """How knowledge gets from what the backbone knows to the rows at hand."""

    def prepare(self, network: Network, loss: Loss) -> None:
        """Look at the whole run once, before the first step."""
        self.loss = loss

    def each_epoch(self, epoch: int) -> None:  # noqa: B027  # a hook that most methods leave empty
        """Act before an epoch starts; `epoch` counts from 0."""

    @abstractmethod
    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        """Terms of the training loss by name, each a scalar; their sum is minimised.

        Args:
            network: the network that trains.
            batches: one batch per domain; plain data has "target" alone.
            progress: share of the training that is behind us, 0 to 1.
        """
