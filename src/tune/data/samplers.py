"""Which rows form which batch: in which order an epoch takes them, and how often each.

A batch is one item, so that its content can depend on its number and epoch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from torch.utils.data import Sampler

from tune.data.seeds import seed_of
from tune.errors import ConfigError

Draw = Callable[[torch.Generator], np.ndarray]
"""Rows of a pass, (N,), drawn from a generator."""

SamplerName = Literal["shuffle", "balanced"]


@dataclass(frozen=True)
class Rows:
    """One batch to be made: number ``number`` of epoch ``epoch``, of these rows of the table, in pass ``turn``."""

    epoch: int
    number: int
    indices: tuple[int, ...]
    turn: int


@final
class BatchRows(Sampler[Rows]):
    """The batches of one process in one epoch, every row once over all processes unless `draw` says otherwise.

    Rows are taken in the order of the epoch, ``batch_rows`` at a time over all processes; process r of w gets rows r,
    r + w, r + 2w … of each. All processes have equally many batches. A last batch of less than two rows per process
    joins the one before it, because batch normalisation needs two rows and no process may be without.

    An epoch is one pass over the rows, or a stretch of so many batches: then the passes follow each other without end,
    and epoch e takes the batches from ``e * stretch`` on, which may be a part of a pass, or several. The order of a
    pass depends on (seed, pass) alone, so that a stretch can be begun without those before it.

    Args:
        rows: (N,) rows of the table.
        batch_rows: rows of a batch over all processes, a multiple of ``world``.
        draw: the rows of a pass, from a generator that (seed, pass) decides; None: `rows` as they stand.
        stretch: batches of an epoch; None: those of one pass.
        seed: of the order.
        rank: number of this process.
        world: number of processes.

    Raises:
        ConfigError: if a process would be without a row.
    """

    def __init__(
        self,
        rows: np.ndarray,
        batch_rows: int,
        *,
        draw: Draw | None = None,
        stretch: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        if 0 < len(rows) < world:
            raise ConfigError(f"trainer: {len(rows)} rows cannot be shared by {world} processes")
        self.rows = np.asarray(rows)
        self.batch_rows = batch_rows
        self.draw = draw
        self.stretch = stretch
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self.epoch = epoch

    @property
    def per_pass(self) -> int:
        """Batches in a pass over the rows."""
        return len(self._starts())

    def turns(self, start: int, end: int) -> range:
        """Passes, counted from 0, of which epochs `start` to `end` - 1 take something."""
        return range(start * len(self) // self.per_pass, -(-end * len(self) // self.per_pass))

    def __len__(self) -> int:
        return self.stretch or self.per_pass

    def __iter__(self) -> Iterator[Rows]:
        epoch, turn, rows = self.epoch, -1, self.rows
        starts = self._starts()
        ends = [*starts[1:], len(rows)]
        for number in range(len(self)):
            now, place = divmod(epoch * len(self) + number, len(starts))
            if now != turn:
                turn, rows = now, self._order(now)
            chosen = rows[starts[place] : ends[place]][self.rank :: self.world]
            yield Rows(epoch, number, tuple(chosen.tolist()), turn)

    def _order(self, turn: int) -> np.ndarray:
        if self.draw is None:
            return self.rows
        return self.draw(torch.Generator().manual_seed(seed_of("order", self.seed, turn)))

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
            yield Rows(first.epoch, first.number, tuple(row for rows in together for row in rows.indices), first.turn)


def choose_order(
    sampler: SamplerName, rows_per_class: int, rows: np.ndarray, labels: np.ndarray, batch_rows: int, world: int
) -> Draw:
    """The order that a run asks for; every one has as many rows as there are.

    Args:
        sampler: of `data.sampler`.
        rows_per_class: what the loss asks for; 0: nothing.
        rows: (N,) that train.
        labels: (N,) their classes.
        batch_rows: rows of a batch.
        world: number of processes.

    Raises:
        ConfigError: if batches of this kind cannot be made.
    """
    if not rows_per_class:
        return each_once(rows) if sampler == "shuffle" else balanced(rows, labels)
    if sampler != "shuffle":
        raise ConfigError(f"data.sampler: {sampler} has no effect, the loss asks for {rows_per_class} rows per class.")
    if world > 1:
        raise ConfigError("loss: it compares the rows of a batch, so they must be in one process: trainer.devices=1.")
    if batch_rows % rows_per_class or batch_rows < 2 * rows_per_class:
        text = f"{batch_rows} rows are not two or more classes of {rows_per_class} rows (loss.rows_per_class) each"
        raise ConfigError(f"batch_size: {text}; take a multiple of {rows_per_class}.")
    few = [str(label) for label, count in zip(*np.unique(labels, return_counts=True), strict=True) if count < 2]
    if few:
        text = f"class {', '.join(few)} has one training row, which has nothing of its class to be compared with"
        raise ConfigError(f"loss: {text}. Leave it out, or take loss=cross_entropy.")
    return by_class(rows, labels, rows_per_class)


def resampled(rows: np.ndarray, *key: int) -> np.ndarray:
    """As many of the rows, drawn with replacement. Breiman 1996, "Bagging predictors", section 1."""
    generator = torch.Generator().manual_seed(seed_of("bootstrap", *key))
    return rows[torch.randint(len(rows), (len(rows),), generator=generator).numpy()]


def each_once(rows: np.ndarray) -> Draw:
    """Every row once."""
    return lambda generator: rows[torch.randperm(len(rows), generator=generator).numpy()]


def balanced(rows: np.ndarray, labels: np.ndarray) -> Draw:
    """Every class equally often: rows of a rare one come several times, of a frequent one some in each epoch."""
    classes = [rows[labels == label] for label in np.unique(labels)]
    each = -(-len(rows) // len(classes))

    def draw(generator: torch.Generator) -> np.ndarray:
        taken = np.concatenate([_cycle(own, each, generator) for own in classes])
        return taken[torch.randperm(len(taken), generator=generator).numpy()][: len(rows)]

    return draw


def by_class(rows: np.ndarray, labels: np.ndarray, rows_per_class: int) -> Draw:
    """Stretches of `rows_per_class` rows of one class; classes come in turn, in a new order each time around."""
    classes = [rows[labels == label] for label in np.unique(labels)]
    turns = -(-len(rows) // (rows_per_class * len(classes)))

    def draw(generator: torch.Generator) -> np.ndarray:
        own = [_cycle(each, turns * rows_per_class, generator).reshape(turns, rows_per_class) for each in classes]
        order = [torch.randperm(len(classes), generator=generator).tolist() for _ in range(turns)]
        return np.concatenate([own[label][turn] for turn in range(turns) for label in order[turn]])[: len(rows)]

    return draw


def _cycle(rows: np.ndarray, number: int, generator: torch.Generator) -> np.ndarray:
    """So many of the rows, each again only when all others came as often."""
    rounds = -(-number // len(rows))
    orders = [rows[torch.randperm(len(rows), generator=generator).numpy()] for _ in range(rounds)]
    return np.concatenate(orders)[:number]
