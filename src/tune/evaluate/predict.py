"""Predictions of a run, as a table that any spreadsheet opens."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import torch

from tune.evaluate.threshold import decide
from tune.run_dir import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor


class Predictions:
    """Rows as they come out of the network, put back into the order of the data.

    In a distributed run every rank adds its own rows and `gather` brings them together.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(self, index: Tensor, labels: Tensor, logits: Tensor, loss: Tensor) -> None:
        """Keep a batch: index (B,), labels (B,), logits (B, K) and its mean loss (a scalar)."""
        self._parts.append((index, labels, logits.detach(), loss.detach().float().expand(len(index))))

    def gather(self) -> tuple[Tensor, Tensor, Tensor, float]:
        """All rows, sorted by index: index (N,), labels (N,), probabilities (N, K) float32, mean loss."""
        index, labels, logits, loss = self._gather()
        return index, labels, logits.double().softmax(dim=1).float(), float(loss.double().mean())

    def gather_logits(self) -> Tensor:
        """(N, K), what was added as logits, in the order of the rows' index."""
        return self._gather()[2]

    def _gather(self) -> list[Tensor]:
        columns = [torch.cat(column).cpu() for column in zip(*self._parts, strict=True)]
        self._parts.clear()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(everyone, columns)
            columns = [torch.cat(column) for column in zip(*everyone, strict=True)]
        order = columns[0].argsort()
        return [column[order] for column in columns]


def write_predictions(
    path: Path,
    names: Sequence[str],
    classes: Sequence[str],
    index: Tensor,
    labels: Tensor,
    probs: Tensor,
    threshold: float | None = None,
) -> None:
    """Write row, path, label, predicted and p_<class> of each row.

    Args:
        path: the csv file; its folder is made.
        names: name of every row of the data.
        classes: K class names.
        index: (N,) rows of the data.
        labels: (N,).
        probs: (N, K).
        threshold: by which two classes are told apart, see `decide`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "path", "label", "predicted", *(f"p_{name}" for name in classes)])
    predicted = decide(probs, threshold).tolist()
    rows = zip(index.tolist(), labels.tolist(), predicted, probs.tolist(), strict=True)
    for row, label, guess, p in rows:
        writer.writerow(
            [row, names[row], classes[label] if label >= 0 else "", classes[guess], *(f"{value:.6f}" for value in p)]
        )
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, text.getvalue())
