"""What a further task is, and what each row has of it. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np

from tune.ranges import Range

Kind = Literal["classification", "multi_label", "regression"]


@dataclass(frozen=True)
class TaskOptions:
    """A column of the data that the network learns to tell beside the label.

    Args:
        kind: one of several classes, any number of labels at once ("crack|finger"; "|" for none of them), or a number.
        column: its name; that of the task when null.
        weight: factor on its loss; the label's is 1.
    """

    kind: Kind
    column: str | None = None
    weight: Annotated[float, Range("(0, inf)")] = 1.0


@dataclass(frozen=True)
class Task:
    """What a task asks for.

    Args:
        kind: as in `TaskOptions`.
        classes: names of its classes or labels, sorted; empty for a regression.
        weight: factor on its loss.
        centre: mean over the training rows, of a regression; the network gives ``(value - centre) / scale``.
        scale: their standard deviation.
    """

    kind: Kind
    classes: list[str]
    weight: float = 1.0
    centre: float = 0.0
    scale: float = 1.0

    @property
    def num_outputs(self) -> int:
        """Numbers that the network gives for a row."""
        return max(1, len(self.classes))


@dataclass(frozen=True)
class TaskLabels:
    """A task, and what each row of a table has of it.

    Args:
        task: what it asks for.
        values: (N,) float64, the number of a class, or a number; (N, L) with 1 for each label that a row has, else 0.
            NaN where a row does not say.
    """

    task: Task
    values: np.ndarray

    @property
    def is_given(self) -> np.ndarray:
        """(N,) whether a row says anything."""
        return ~np.isnan(self.values if self.values.ndim == 1 else self.values[:, 0])

    @property
    def aims(self) -> np.ndarray:
        """What the loss aims at, float32, in the shape of `values`: numbers of a regression are standardised."""
        return ((self.values - self.task.centre) / self.task.scale).astype(np.float32)

    def take(self, rows: np.ndarray) -> TaskLabels:
        """Of these rows only."""
        return replace(self, values=self.values[rows])

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """(K,) or (L,): how many of some rows have each class or label."""
        values = self.values[rows[self.is_given[rows]]]
        if self.task.kind == "multi_label":
            return values.sum(axis=0).astype(int)
        return np.bincount(values.astype(int), minlength=len(self.task.classes))
