"""Batches for training, validation and test: the only place where a table meets a network's input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, final

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tune.data.augment import Augment
from tune.data.loading.batches import ImageBatches, Kept
from tune.data.loading.orders import InTurn, Together, rows_by_domain, trained_rows
from tune.data.pixels import KeptPixels, free_bytes
from tune.data.samplers import BatchRows, Draw, SamplerName, SeveralOrders, choose_order, each_once, resampled
from tune.data.splits import Parts
from tune.data.table import Table
from tune.data.transforms import Fit, InputTransform
from tune.errors import ConfigError


@final
class ImageData(pl.LightningDataModule):
    """Loaders that yield ``{"target": Batch}``, with two domains "source" too, the same whatever the number of workers.

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
        takes_target: whether batches of the target, without labels, come beside those of the source.
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
        takes_target: bool = False,
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
        if world > 1 and table.domain is not None:
            raise ConfigError("trainer.devices: two domains are learned from in one process: trainer.devices=1")
        self.table = table
        self.parts = parts
        self.fit: Fit = fit
        self.transform = InputTransform(input_size, mean, std, interpolation, fit)
        self.workers = workers
        self.accumulate = accumulate
        self.mixes = augment is not None and augment.mixes
        self.changes_pixels = augment is not None and augment.changes_pixels
        trained, labels = trained_rows(table, parts, takes_target), table.seen_labels
        rows = next(iter(trained.values()))
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

        def draw(seed: int, bootstrap: int | None) -> Draw:
            taken = rows if bootstrap is None else resampled(rows, seed, bootstrap)
            return choose_order(sampler, rows_per_class, taken, labels[taken], batch_size // accumulate, world)

        self._draw = draw
        self.rank, self.world, self.batch_rows = rank, world, batch_size // accumulate
        stretch = epoch_steps * accumulate if epoch_steps else None
        orders: dict[str, BatchRows] = {}
        for domain, some in trained.items():
            drawn = draw(seed, bootstrap) if some is rows else each_once(some)
            orders[domain] = BatchRows(
                some, self.batch_rows, draw=drawn, stretch=stretch, seed=seed, rank=rank, world=world
            )
            stretch = len(orders[domain])  # of the first domain; the others begin again as often as it takes
        self.trained: list[int] = np.unique(np.concatenate(list(trained.values()))).tolist()
        self._orders, self._first = orders, next(iter(orders.values()))
        self._order = Together(orders)

    def use(self, kept: Kept) -> None:
        """Ask for what is kept before an image is read; images that are read more than once are held in memory."""
        self._training.kept = self._plain.kept = kept
        if self.changes_pixels or not kept.is_kept:
            readers = 1 if not self.workers else 2 * self.workers + 1  # workers of training and validation, and this
            room = free_bytes() // 4 // readers // self.world
            self._training.pixels = self._plain.pixels = KeptPixels(room)

    def load(self, view: str, row: int) -> Tensor:
        """(3, H, W) of a row: changed as in the pass that `view` names, or as it is ("")."""
        return self._training.image(int(view), row) if view else self._plain.image(0, row)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-len(self._order) // self.accumulate)

    @property
    def batches_per_pass(self) -> int:
        """Training batches in which every row comes once."""
        return self._first.per_pass

    @property
    def epochs_per_pass(self) -> int:
        """Epochs until every training row has come once."""
        return -(-self.batches_per_pass // len(self._order))

    def turns(self, start: int, end: int) -> range:
        """Passes over the training rows of a domain of which epochs `start` to `end` - 1 take something."""
        turns = [order.turns(start, end) for order in self._orders.values()]
        return range(min(some.start for some in turns), max(some.stop for some in turns))

    def train_dataloader(self) -> DataLoader:
        """Shuffled by (seed, epoch), augmented, labels smoothed and mixed as asked for."""
        sampler = self._order
        if self.trainer is not None:
            # A resumed run makes the first iterator, whose workers read ahead, before it sets the sampler's epoch; and
            # in a checkpoint of an epoch's end that epoch is processed, but not yet completed (`current_epoch`).
            progress = self.trainer.fit_loop.epoch_progress.current
            sampler.set_epoch(progress.processed)  # pyright: ignore[reportAttributeAccessIssue]  # typed as its base
        return self._loader(self._training, sampler)

    def several_orders(self, orders: Sequence[tuple[int, int | None]]) -> DataLoader:
        """As `train_dataloader`, for several (seed, bootstrap) at once: B rows of the first, B of the second …"""
        own = self._first
        each = [
            BatchRows(own.rows, own.batch_rows, draw=self._draw(*order), stretch=own.stretch, seed=order[0])
            for order in orders
        ]
        return self._loader(self._training, Together({"target": SeveralOrders(each)}))

    def first_rows(self, batches: int) -> list[int]:
        """Rows of the table that come in the first so many training batches, each once."""
        rows: dict[int, None] = {}
        for epoch in range(-(-batches // len(self._order))):
            self._order.set_epoch(epoch)
            for together in islice(self._order, batches - epoch * len(self._order)):
                rows |= dict.fromkeys(row for some in together.values() for row in some.indices)
        return list(rows)

    def only(self, rows: np.ndarray) -> None:
        """Train on some of the rows with a label alone, each once an epoch."""
        self._first.rows, self._first.draw, self._first.stretch = np.asarray(rows), each_once(rows), None
        for order in self._orders.values():
            if order is not self._first:
                order.stretch = len(self._first)

    def weigh(self, weights: Tensor) -> None:
        """Give every row of the table another weight in the loss, (N,)."""
        self._training.weights = self._plain.weights = weights.float()

    def val_dataloader(self) -> DataLoader:
        """In the order of the table, unchanged."""
        return self.eval_rows("val")

    def test_dataloader(self) -> DataLoader:
        """In the order of the table, unchanged."""
        return self.eval_rows("test")

    def eval_rows(self, part: str) -> DataLoader:
        """Any part, "train" too, as validation sees it: in order, unchanged, plain one-hot."""
        return self._in_turn(rows_by_domain(self.table, self.parts.rows(part)))

    def seen_rows(self, domain: str, part: str) -> DataLoader:
        """Rows of a part of one domain as validation sees them; plain data has "target" alone."""
        return self._in_turn({domain: rows_by_domain(self.table, self.parts.rows(part))[domain]})

    def _in_turn(self, rows: Mapping[str, np.ndarray]) -> DataLoader:
        orders = {
            domain: BatchRows(some, self.batch_rows, rank=self.rank, world=self.world) for domain, some in rows.items()
        }
        return self._loader(self._plain, InTurn(orders))

    def _loader(self, batches: ImageBatches, sampler: Together | InTurn) -> DataLoader:
        workers = 0 if self._plain.kept is not None and self._plain.kept.is_kept else self.workers
        # An own generator: the loader draws a seed for its workers, which must not move the global one.
        return DataLoader(
            batches,
            batch_size=None,
            sampler=sampler,
            collate_fn=as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator(),
        )


def as_it_is(batch: Any) -> Any:
    """The batches of a step; torch's own way to collate would rebuild them."""
    return batch
