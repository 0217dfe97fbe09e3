"""What a transfer method sees of a run besides its batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from lightning_fabric.utilities import move_data_to_device

from tune.features.cache import FeatureCache
from tune.features.contents import Contents
from tune.features.options import CacheOptions
from tune.features.whole import features_of
from tune.talk import bar
from tune.transfer.interface import Seen

if TYPE_CHECKING:
    from torch import Tensor

    from tune.data.module import ImageData
    from tune.data.transforms import InputTransform
    from tune.models.interface import Backbone
    from tune.train.learner import Learner
    from tune.train.prepare import Prepared


@dataclass
class LearnerSight:
    """The network of a run, looking at the training rows of its data."""

    prepared: Prepared

    @property
    def learner(self) -> Learner:
        """Whose network it is."""
        return self.prepared.learner

    @property
    def data(self) -> ImageData:
        """Of the run."""
        return self.prepared.data

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.learner.seed

    def look(self, domain: str = "target", part: Literal["train", "val"] = "train") -> Seen:
        """What the network says now of rows of a domain; it is left in the mode in which it was."""
        learner, was_training = self.learner, self.learner.training
        if self.prepared.device in ("cuda", "mps"):  # before and after the training Lightning leaves it on the CPU
            learner.to(torch.device(self.prepared.device))
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

    def ask(self, backbone: Backbone, transform: InputTransform, about: str) -> tuple[Tensor, Tensor]:
        """What another backbone says of the training rows as they are, in the form in which a frozen one runs here."""
        prepared, precision = self.prepared, self.prepared.precision
        options, table = CacheOptions(**prepared.config["cache"]), prepared.table
        contents = Contents(options, table)
        is_kept = options.mode != "never" and not contents.trouble and prepared.world == 1
        mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
        index = torch.from_numpy(table.labelled(prepared.parts.train))
        with bar(f"{len(index):,} images for the teacher", len(index)) as tick:
            features = features_of(
                backbone,
                transform,
                table,
                index.tolist(),
                about=about,
                computed=precision.frozen or mixed.get(precision.trainer),
                device=torch.device(prepared.device if prepared.device in ("cuda", "mps") else "cpu"),
                cache=FeatureCache(contents.folder, options.max_gb) if is_kept else None,
                digests=contents.digests(table) if is_kept else [],
                tick=tick,
            )
        return index, features
