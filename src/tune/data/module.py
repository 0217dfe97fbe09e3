"""Batches for training, validation and test: the only place where a table meets a network's input size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, final

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tune.batch import Batch
from tune.data.augment import Augment
from tune.data.mix import mix
from tune.data.pixels import KeptPixels, free_bytes
from tune.data.samplers import BatchRows, Draw, Rows, SamplerName, SeveralOrders, choose_order, resampled
from tune.data.seeds import keyed
from tune.data.splits import Parts
from tune.data.table import Table
from tune.data.transforms import Fit, InputTransform
from tune.errors import ConfigError


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
class ImageBatches(Dataset[Batch]):
    """A finished batch for a `Rows`. A worker process gives what the main process would, but never what is kept.

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
        self.labels = torch.from_numpy(np.asarray(table.labels, dtype=np.int64))
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

    def __getitem__(self, rows: Rows) -> Batch:
        index = torch.tensor(rows.indices, dtype=torch.int64)  # (B,)
        images = None  # (B, 3, H, W), or (B, N) of what is kept
        if self.kept is not None and get_worker_info() is None:
            images = self.kept.take(rows.epoch if self.training else None, rows.turn, index)
        if images is None:
            images = torch.stack([self.image(rows.turn, i) for i in rows.indices])
        one_hot = F.one_hot(self.labels[index], self.num_classes).float()  # (B, K)
        probs = (1 - self.label_smoothing) * one_hot + self.label_smoothing / self.num_classes
        tasks = {name: aims[index] for name, aims in self.tasks.items()}
        batch = Batch(images, self.labels[index], probs, self.weights[index], index, tasks=tasks)
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


@final
class ImageData(pl.LightningDataModule):
    """Loaders that yield ``{"target": Batch}``, the same whatever the number of workers.

    Augmentation, mixing and label smoothing act in training only. Over all processes each row of a part comes once per
    epoch; Lightning's own distributed sampler must be off (``use_distributed_sampler=False``).

    Args:
        table: all rows.
        parts: which rows train, validate, test.
        input_size: (H, W).
        mean: of each channel, pixels 0-1.
        std: of each channel.
        interpolation: Pillow's name of it.
        fit: crop, stretch or pad.
        augment: random changes of training images; None for none.
        label_smoothing: ε from 0 to 1.
        views: ways in which a training image is changed, in turn by pass over the rows; None: a new one in each.
        sampler: shuffle or balanced, see `choose_order`.
        rows_per_class: rows of a class that share a training batch, as the loss asks; 0: any.
        bootstrap: number of a draw of the training rows with replacement; None: each as it stands.
        batch_size: rows per optimizer step, over all processes and accumulated batches.
        accumulate: batches per optimizer step.
        epoch_steps: optimizer steps in an epoch; None: one pass over the rows.
        workers: processes that read ahead; 0 for none.
        seed: of order, augmentation and mixing.
        rank: number of this process.
        world: number of processes.

    Raises:
        ConfigError: if the batch size cannot be divided equally, or a part has fewer rows than there are processes.
    """

    def __init__(
        self,
        table: Table,
        parts: Parts,
        *,
        input_size: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        interpolation: str = "bilinear",
        fit: Fit = "crop",
        augment: Augment | None = None,
        label_smoothing: float = 0.0,
        views: int | None = None,
        sampler: SamplerName = "shuffle",
        rows_per_class: int = 0,
        bootstrap: int | None = None,
        batch_size: int = 32,
        accumulate: int = 1,
        epoch_steps: int | None = None,
        workers: int = 0,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        super().__init__()
        if batch_size % (world * accumulate):
            text = f"{batch_size} rows cannot be divided equally among {world} processes × {accumulate} batches"
            raise ConfigError(f"batch_size: {text}; take a multiple of {world * accumulate}")
        self.table = table
        self.parts = parts
        self.fit: Fit = fit
        self.transform = InputTransform(input_size, mean, std, interpolation, fit)
        self.workers = workers
        self.accumulate = accumulate
        self.mixes = augment is not None and augment.mixes
        self.changes_pixels = augment is not None and augment.changes_pixels
        self.class_counts: list[int] = table.class_counts(parts.train).tolist()
        self._training = ImageBatches(
            table,
            self.transform,
            seed=seed,
            augment=augment,
            label_smoothing=label_smoothing,
            training=True,
            views=views,
        )
        self._plain = ImageBatches(table, self.transform)
        rows, labels = parts.rows("train"), table.labels

        def draw(seed: int, bootstrap: int | None) -> Draw:
            taken = rows if bootstrap is None else resampled(rows, seed, bootstrap)
            return choose_order(sampler, rows_per_class, taken, labels[taken], batch_size // accumulate, world)

        self._draw = draw
        self._samplers = {
            part: BatchRows(
                parts.rows(part),
                batch_size // accumulate,
                draw=draw(seed, bootstrap) if part == "train" else None,
                stretch=epoch_steps * accumulate if epoch_steps and part == "train" else None,
                seed=seed,
                rank=rank,
                world=world,
            )
            for part in ("train", "val", "test")
        }

    def use(self, kept: Kept) -> None:
        """Ask for what is kept before an image is read; images that are read more than once are held in memory."""
        self._training.kept = self._plain.kept = kept
        if self.changes_pixels or not kept.is_kept:
            readers = 1 if not self.workers else 2 * self.workers + 1  # workers of training and validation, and this
            room = free_bytes() // 4 // readers // self._samplers["train"].world
            self._training.pixels = self._plain.pixels = KeptPixels(room)

    def load(self, view: str, row: int) -> Tensor:
        """(3, H, W) of a row: changed as in the pass that `view` names, or as it is ("")."""
        return self._training.image(int(view), row) if view else self._plain.image(0, row)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self._samplers["train"]) // self.accumulate)

    @property
    def batches_per_pass(self) -> int:
        """Training batches in which every row comes once."""
        return self._samplers["train"].per_pass

    @property
    def epochs_per_pass(self) -> int:
        """Epochs until every training row has come once."""
        return -(-self.batches_per_pass // len(self._samplers["train"]))

    def turns(self, start: int, end: int) -> range:
        """Passes over the training rows of which epochs `start` to `end` - 1 take something."""
        return self._samplers["train"].turns(start, end)

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch), augmented, labels smoothed and mixed as asked for."""
        sampler = self._samplers["train"]
        if self.trainer is not None:
            # A resumed run makes the first iterator, whose workers read ahead, before it sets the sampler's epoch; and
            # in a checkpoint of an epoch's end that epoch is processed, but not yet completed (`current_epoch`).
            progress = self.trainer.fit_loop.epoch_progress.current
            sampler.set_epoch(progress.processed)  # pyright: ignore[reportAttributeAccessIssue]  # typed as its base
        return self._loader(self._training, sampler)

    def several_orders(self, orders: Sequence[tuple[int, int | None]]) -> DataLoader:
        """As `train_dataloader`, for several (seed, bootstrap) at once: B rows of the first, B of the second …"""
        own = self._samplers["train"]
        each = [
            BatchRows(own.rows, own.batch_rows, draw=self._draw(*order), stretch=own.stretch, seed=order[0])
            for order in orders
        ]
        return self._loader(self._training, SeveralOrders(each))

    def weigh(self, weights: Tensor) -> None:
        """Give every row of the table another weight in the training loss, (N,)."""
        self._training.weights = weights.float()

    def val_dataloader(self) -> DataLoader:
        """In the order of the table, unchanged."""
        return self._loader(self._plain, self._samplers["val"])

    def test_dataloader(self) -> DataLoader:
        """In the order of the table, unchanged."""
        return self._loader(self._plain, self._samplers["test"])

    def eval_rows(self, part: str) -> DataLoader:
        """Any part, "train" too, as validation sees it: in order, unchanged, plain one-hot."""
        own = self._samplers[part]
        sampler = BatchRows(own.rows, own.batch_rows, rank=own.rank, world=own.world)
        return self._loader(self._plain, sampler)

    def seen_rows(self, domain: str) -> DataLoader:
        """Training rows of a domain as validation sees them; plain data has "target" alone."""
        assert domain == "target", domain
        return self.eval_rows("train")

    def _loader(self, batches: ImageBatches, sampler: BatchRows | SeveralOrders) -> DataLoader:
        workers = 0 if self._plain.kept is not None and self._plain.kept.is_kept else self.workers
        # An own generator: the loader draws a seed for its workers, which must not move the global one.
        return DataLoader(
            batches,
            batch_size=None,
            sampler=sampler,
            collate_fn=as_target,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )


def as_target(batch: Any) -> dict[str, Batch]:
    """The batch under the name of its domain."""
    return {"target": batch}
