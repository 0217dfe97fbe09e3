"""What the checks look at: a run that is prepared on the side, with a few of its images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from tune.batch import Batch
from tune.losses.tasks import TaskLosses
from tune.train.choose.look import sample
from tune.train.probe.steps import untouched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tune.batch import Output
    from tune.data.splits import Parts
    from tune.data.table import Table
    from tune.features.contents import Contents
    from tune.train.doctor.watch import Watch
    from tune.train.prepare import Prepared

ROWS = 16
"""Images that are looked at one by one; a whole batch of a large network takes seconds."""


@dataclass
class Case:
    """A run that is looked at.

    Args:
        config: of the run, with a feature cache of its own.
        table: all rows; None where the data could not be read.
        parts: of the rows.
        contents: what is known of the images' content.
        skipped: (name, reason) of each image that cannot be read.
        prepared: None where the run cannot be built.
        quick: whether what takes long is left out.
        picture: file for a batch as the network sees it; empty for none.
        watched: a few steps of the run's own training; None until they are made.
    """

    config: dict[str, Any]
    table: Table | None = None
    parts: Parts | None = None
    contents: Contents | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    prepared: Prepared | None = None
    quick: bool = False
    picture: str = ""
    watched: Watch | None = None

    @property
    def run(self) -> Prepared:
        """Of checks that are made of built runs alone."""
        assert self.prepared is not None
        return self.prepared

    @property
    def rows(self) -> Table:
        """Of checks that are made of data that could be read."""
        assert self.table is not None
        return self.table

    @property
    def split(self) -> Parts:
        """The parts of the rows."""
        assert self.parts is not None
        return self.parts

    @property
    def loss(self) -> Any:
        """The loss of the label."""
        loss = self.run.learner.loss
        return loss.label if isinstance(loss, TaskLosses) else loss

    def train_rows(self, limit: int) -> np.ndarray:
        """At most so many training rows with a label that the run may know, each class with its share."""
        labelled = self.rows.labelled(self.split.train)
        return sample(self.rows.labels, labelled, limit, seed=0)

    @cached_property
    def batch(self) -> Batch:
        """Training rows as they are, on the CPU: images (B, 3, H, W), plain one-hot, in turn of each class."""
        rows = _in_turn(self.rows.labels, self.train_rows(20 * ROWS))[:ROWS]
        images = torch.stack([self.run.data.load("", int(row)) for row in rows])
        index = torch.from_numpy(rows)
        labels = torch.from_numpy(self.rows.labels[rows])
        probs = F.one_hot(labels, self.rows.num_classes).float()
        tasks = {name: torch.from_numpy(task.aims)[index] for name, task in self.rows.tasks.items()}
        return Batch(images, labels, probs, torch.ones(len(rows)), index, tasks=tasks)

    def ask(self, images: torch.Tensor, *, training: bool = False) -> Output:
        """What the whole network says of images (B, 3, H, W); it is left as it was."""
        run = self.run
        learner = run.learner
        with untouched(run), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            learner.to(torch.device(run.device if run.device in ("cuda", "mps") else "cpu"))
            learner.place_frozen()
            learner.train(training)
            learner.network.set_step(0, 0)
            return learner.network(learner.entering(images.to(learner.device)))

    def told(self, rows: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Features (B, D) and labels (B,) of rows, a few at a time."""
        for some in np.array_split(rows, -(-len(rows) // 32)):
            images = torch.stack([self.run.data.load("", int(row)) for row in some])
            yield self.ask(images).features.float().cpu(), torch.from_numpy(self.rows.labels[some])


def _in_turn(labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows, one of each class, then the next of each."""
    place = np.empty(len(rows), np.int64)
    for k in np.unique(labels[rows]):
        own = np.flatnonzero(labels[rows] == k)
        place[own] = np.arange(len(own))
    return rows[np.lexsort((labels[rows], place))]
