"""What a transfer method sees of a run besides its batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from lightning_fabric.utilities import move_data_to_device

from tune.transfer.interface import Seen

if TYPE_CHECKING:
    from tune.data.module import ImageData
    from tune.train.learner import Learner


@dataclass
class LearnerSight:
    """The network of a learner, looking at the training rows of its data."""

    learner: Learner
    data: ImageData
    output: str

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.learner.seed

    @property
    def device(self) -> torch.device:
        """On which the network is."""
        return self.learner.device

    def look(self, domain: str = "target", part: Literal["train", "val"] = "train") -> Seen:
        """What the network says now of rows of a domain; it is left in the mode in which it was."""
        learner, was_training = self.learner, self.learner.training
        learner.eval()
        learner.place_frozen()
        columns: list[list[torch.Tensor]] = []
        with torch.no_grad():
            for batches in self.data.seen_rows(domain, part):
                batch = move_data_to_device(batches[domain], learner.device)
                output = learner.network(learner.entering(batch.images))
                columns.append([batch.index, batch.labels, output.features, output.embedding, output.logits])
        learner.train(was_training)
        return Seen(*(torch.cat(column) for column in zip(*columns, strict=True)))
