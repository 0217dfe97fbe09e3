"""Which rows form which batch. A batch is one item, so that its content can depend on its number and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch.utils.data import Sampler

from tune.data.seeds import seed_of
from tune.errors import ConfigError


@dataclass(frozen=True)
class Rows:
    """One batch to be made: number ``number`` of epoch ``epoch``, of these rows of the table."""

    epoch: int
    number: int
    indices: tuple[int, ...]


@final
class BatchRows(Sampler[Rows]):
    """The batches of one process in one epoch, every row once over all processes.

    Rows are taken in the order of the epoch, ``batch_rows`` at a time over all processes; process r of w gets rows r,
    r + w, r + 2w … of each. All processes have equally many batches. A last batch of less than two rows per process
    joins the one before it, because batch normalisation needs two rows and no process may be without.

    Args:
        rows: (N,) rows of the table.
        batch_rows: rows of a batch over all processes, a multiple of ``world``.
        shuffle: a new order each epoch, from (seed, epoch).
        seed: of the order.
        rank: number of this process.
        world: number of processes.

    Raises:
        ConfigError: if a process would be without a row.
    """

    def __init__(
        self, rows: np.ndarray, batch_rows: int, *, shuffle: bool, seed: int = 0, rank: int = 0, world: int = 1
    ):
        if 0 < len(rows) < world:
            raise ConfigError(f"trainer: {len(rows)} rows cannot be shared by {world} processes")
        self.rows = np.asarray(rows)
        self.batch_rows = batch_rows
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[Rows]:
        epoch, rows = self.epoch, self.rows
        if self.shuffle:
            generator = torch.Generator().manual_seed(seed_of("order", self.seed, epoch))
            rows = rows[torch.randperm(len(rows), generator=generator).numpy()]
        starts = self._starts()
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(rows)], strict=False)):
            yield Rows(epoch, number, tuple(rows[start:end][self.rank :: self.world].tolist()))

    def _starts(self) -> list[int]:
        starts = list(range(0, len(self.rows), self.batch_rows))
        rest = len(self.rows) % self.batch_rows
        return starts[:-1] if 0 < rest < 2 * self.world and len(starts) > 1 else starts


@final
class SeveralOrders(Sampler[Rows]):
    """The batches of several seeds side by side: the rows of the first seed, then those of the second …

    Args:
        orders: one of each seed, over the same rows.
    """

    def __init__(self, orders: Sequence[BatchRows]):
        self.orders = list(orders)

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        for order in self.orders:
            order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.orders[0])

    def __iter__(self) -> Iterator[Rows]:
        for together in zip(*self.orders, strict=True):
            first = together[0]
            yield Rows(first.epoch, first.number, tuple(row for rows in together for row in rows.indices))
