"""Which domain's rows come when: side by side in training, one after the other in validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import final

import numpy as np
from torch.utils.data import Sampler

from tune.data.samplers import BatchRows, Rows, SeveralOrders
from tune.data.splits import Parts
from tune.data.table import Table

Order = BatchRows | SeveralOrders


@final
class Together(Sampler[dict[str, Rows]]):
    """A batch of every domain in each step; the first decides how many steps an epoch has."""

    def __init__(self, orders: Mapping[str, Order]) -> None:
        self.orders = dict(orders)
        self.first = next(iter(self.orders.values()))

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        for order in self.orders.values():
            order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[dict[str, Rows]]:
        for rows in zip(*self.orders.values(), strict=True):
            yield dict(zip(self.orders, rows, strict=True))


@final
class InTurn(Sampler[dict[str, Rows]]):
    """All batches of one domain, then all of the next."""

    def __init__(self, orders: Mapping[str, BatchRows]) -> None:
        self.orders = orders

    def __len__(self) -> int:
        return sum(len(order) for order in self.orders.values())

    def __iter__(self) -> Iterator[dict[str, Rows]]:
        for domain, order in self.orders.items():
            for rows in order:
                yield {domain: rows}


def trained_rows(table: Table, parts: Parts, takes_target: bool) -> dict[str, np.ndarray]:
    """Training rows by domain: those whose label the run may know first, then, if asked for, all of the target.

    Plain data has "target" alone; so has a run whose source is closed.
    """
    rows = parts.train
    if table.domain is None:
        return {"target": rows}
    labelled = table.labelled(rows)
    target = rows[table.domain[rows] == "target"]
    if not len(labelled):
        return {"target": target}
    return {"source": labelled, "target": target} if takes_target else {"source": labelled}


def labelled_counts(table: Table, parts: Parts) -> list[int]:
    """(K,) training rows of each class, as far as the run may know; 1 each where it may know none."""
    counts = table.class_counts(table.labelled(parts.train))
    return counts.tolist() if counts.any() else [1] * table.num_classes


def tested_rows(table: Table, parts: Parts) -> np.ndarray:
    """Test rows that `test/…` is of: the target's, where there are two domains."""
    return rows_by_domain(table, parts.test).get("target", parts.test[:0])


def rows_by_domain(table: Table, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of each domain, the source's first."""
    if table.domain is None:
        return {"target": rows}
    domains: Sequence[str] = ("source", "target")
    return {domain: some for domain in domains if len(some := rows[table.domain[rows] == domain])}
