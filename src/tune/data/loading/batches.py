"""Finished batches, made of the rows that a sampler names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, get_worker_info

from tune.batch import Batch
from tune.data.augment import Augment
from tune.data.mix import mix
from tune.data.pixels import KeptPixels
from tune.data.samplers import Rows
from tune.data.seeds import keyed
from tune.data.table import Table
from tune.data.transforms import InputTransform


class Kept(Protocol):
    """What a frozen part of the network has said of the images."""

    @property
    def is_kept(self) -> bool:
        """Whether images are needed no more."""
        ...

    def take(self, epoch: int | None, turn: int, index: Tensor) -> Tensor | None:
        """Its words (B, N) on rows of the table, augmented for a pass; as they are if there is no epoch. None if it
        keeps none."""
        ...


@final
class ImageBatches(Dataset[dict[str, Batch]]):
    """Finished batches for the rows of each domain.

    A worker process gives what the main process would, but never what is kept.

    Args:
        table: all rows.
        transform: to the network's input.
        seed: of augmentation and mixing.
        augment: random changes; None for none.
        label_smoothing: ε, moved from the true class to all K equally.
        training: whether what is kept is asked for by epoch.
        views: ways in which an image is changed, in turn by pass over the rows; None: a new one in each.
    """

    def __init__(
        self,
        table: Table,
        transform: InputTransform,
        *,
        training: bool = False,
        views: int | None = None,
        seed: int = 0,
        augment: Augment | None = None,
        label_smoothing: float = 0.0,
    ):
        self.images = table.images
        self.labels = torch.from_numpy(np.asarray(table.seen_labels, dtype=np.int64))
        weights = np.ones(len(table)) if table.weights is None else table.weights
        self.weights = torch.from_numpy(np.asarray(weights, dtype=np.float32))
        self.tasks = {name: torch.from_numpy(labels.aims) for name, labels in table.tasks.items()}
        self.num_classes = table.num_classes
        self.transform = transform
        self.seed = seed
        self.augment = augment
        self.label_smoothing = label_smoothing
        self.training = training
        self.views = views
        self.kept: Kept | None = None
        self.pixels = KeptPixels(0)

    def __getitem__(self, rows: Mapping[str, Rows]) -> dict[str, Batch]:
        return {domain: self.batch(some) for domain, some in rows.items()}

    def batch(self, rows: Rows) -> Batch:
        """The batch of some rows; what a label says is 0 where the run may not know it."""
        index = torch.tensor(rows.indices, dtype=torch.int64)  # (B,)
        images = None  # (B, 3, H, W), or (B, N) of what is kept
        if self.kept is not None and get_worker_info() is None:
            images = self.kept.take(rows.epoch if self.training else None, rows.turn, index)
        if images is None:
            images = torch.stack([self.image(rows.turn, i) for i in rows.indices])
        labels = self.labels[index]
        one_hot = F.one_hot(labels.clamp_min(0), self.num_classes).float()  # (B, K)
        probs = (1 - self.label_smoothing) * one_hot + self.label_smoothing / self.num_classes
        probs = probs * (labels >= 0)[:, None]
        tasks = {name: aims[index] for name, aims in self.tasks.items()}
        batch = Batch(images, labels, probs, self.weights[index], index, tasks=tasks)
        if self.augment is not None and self.augment.mixes:
            with keyed("mix", self.seed, rows.epoch, rows.number):
                return mix(batch, self.augment.mixup, self.augment.cutmix)
        return batch

    def image(self, turn: int, row: int) -> Tensor:
        """(3, H, W), changed at random as in a pass over the rows."""
        augment = self.augment if self.augment is not None and self.augment.changes_pixels else None
        kind = "picture" if augment is not None and augment.crop < 1 else "resized"
        started = self.pixels.take(kind, row, lambda: self.transform.start(self.images[row], augment))
        if augment is None:
            return self.transform.finish(started)
        view = turn % self.views if self.views else turn
        with keyed("augment", self.seed, view, row):
            return self.transform.finish(started, augment)
