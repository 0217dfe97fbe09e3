"""What a file of predictions says: counts by class, ROC and precision–recall, the surest mistakes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Decided:
    """Rows of a part with a known label, as the file says them.

    Args:
        classes: K names.
        rows: (N,) numbers of rows of the data.
        names: N names.
        labels: (N,).
        predicted: (N,), what was decided for.
        probs: (N, K).
    """

    classes: list[str]
    rows: NDArray[np.int64]
    names: list[str]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probs: NDArray[np.float64]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K), class by decision."""
        number = len(self.classes)
        return np.bincount(self.labels * number + self.predicted, minlength=number**2).reshape(number, number)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(N,), probability of what was decided for."""
        return self.probs[np.arange(len(self.labels)), self.predicted]

    def surest_mistakes(self, count: int) -> list[int]:
        """Places of the rows that were decided wrong, the most confident first."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:count].tolist()


def read_decided(path: Path) -> Decided | None:
    """Read a file of predictions; None if there is none, or no row of it has a label and finite probabilities."""
    if not path.is_file():
        return None
    with path.open(newline="") as lines:
        header, *rows = list(csv.reader(lines)) or [[]]
    classes = [name.removeprefix("p_") for name in header[4:]]
    number = {name: place for place, name in enumerate(classes)}
    known = [row for row in rows if row[2] in number and row[3] in number and "nan" not in row[4:]]
    if not known:
        return None
    return Decided(
        classes,
        np.array([int(row[0]) for row in known]),
        [row[1] for row in known],
        np.array([number[row[2]] for row in known]),
        np.array([number[row[3]] for row in known]),
        np.array([[float(p) for p in row[4:]] for row in known]),
    )


@dataclass(frozen=True)
class ByClass:
    """A class: rows that have it, precision, recall and F1; None where nothing is divided by."""

    name: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


def by_class(decided: Decided) -> list[ByClass]:
    """Each of the classes."""
    matrix = decided.confusion
    found = []
    for k, name in enumerate(decided.classes):
        right, rows, said = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        f1 = 2 * right / (rows + said) if rows + said else None
        found.append(ByClass(name, rows, right / said if said else None, right / rows if rows else None, f1))
    return found


@dataclass(frozen=True)
class Curve:
    """A class against the rest, at every threshold from none to all of the rows.

    Args:
        name: of the class.
        false_rate: share of the other rows above the threshold.
        recall: share of its rows above it.
        precision: share of the rows above it that have the class; 1 above all of them.
        area: under the ROC curve.
        average: precision, by the steps of recall.
        share: of the rows that have the class.
        point: false positive rate, recall and precision of what was decided; no precision where nothing was.
    """

    name: str
    false_rate: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    area: float
    average: float
    share: float
    point: tuple[float, float, float | None]


def curve_of(decided: Decided, k: int) -> Curve | None:
    """Of one class; None where all rows or none have it."""
    positive, scores = decided.labels == k, decided.probs[:, k]
    rows, others = int(positive.sum()), int((~positive).sum())
    if not rows or not others:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # rows of equal score come together
    hits = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    false = np.concatenate([[0], np.cumsum(~positive[order])[ends]])
    precision = np.concatenate([[1.0], hits[1:] / (hits[1:] + false[1:])])
    recall, false_rate = hits / rows, false / others
    said = decided.predicted == k
    right = int((said & positive).sum())
    point = (int((said & ~positive).sum()) / others, right / rows, right / int(said.sum()) if said.any() else None)
    return Curve(
        decided.classes[k],
        false_rate,
        recall,
        precision,
        float(np.trapezoid(recall, false_rate)),
        float((np.diff(recall) * precision[1:]).sum()),
        rows / (rows + others),
        point,
    )
