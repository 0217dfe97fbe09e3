"""Two runs on the same rows: how much better one is, with an interval. Torch-free.

Rows are drawn with replacement, the same for both, so that rows which are hard for both do not blur the difference.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tune.errors import DataError, Problem
from tune.evaluate.intervals import RESAMPLES, auroc, drawn, middle, resampled_auroc

Metric = Literal["accuracy", "auroc"]
METRICS: tuple[Metric, ...] = ("accuracy", "auroc")


def paired(
    labels: NDArray[np.int64],
    probs_a: NDArray[np.float64],
    probs_b: NDArray[np.float64],
    metric: Metric,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How much more `a` has of a metric than `b`, and the 95 % percentile interval of that.

    Accuracy decides for the likeliest class; auroc is of class 1 of two, else one against the rest, averaged.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3, of rows as pairs. Resamples in
    which there is no area (one class only) are left out.

    Args:
        labels: (N,).
        probs_a: (N, K).
        probs_b: (N, K).
        metric: accuracy or auroc.
        seed: of the resampling; the same seed draws the same rows.

    Returns:
        Difference, lower and upper end; all NaN for the auroc of rows of one class.
    """
    if metric == "accuracy":
        gained = (probs_a.argmax(axis=1) == labels).astype(np.int64) - (probs_b.argmax(axis=1) == labels)  # (N,)
        n = len(labels)
        differences = np.concatenate([weights @ gained / n for weights in drawn(n, RESAMPLES, seed)])  # (R,)
        return float(gained.mean()), *middle(differences)
    difference = auroc(probs_a, labels) - auroc(probs_b, labels)
    differences = resampled_auroc(probs_a, labels, seed) - resampled_auroc(probs_b, labels, seed)
    differences = differences[~np.isnan(differences)]
    return difference, *(middle(differences) if len(differences) else (np.nan, np.nan))


@dataclass(frozen=True)
class Joined:
    """What two runs said of the same rows, in the order of the first one's file.

    Args:
        classes: K names.
        paths: of each row, as the file says it.
        labels: (N,).
        probs_a: (N, K).
        probs_b: (N, K).
        predicted_a: (N,) classes that were decided for, by a threshold where the run had one.
        predicted_b: (N,).
    """

    classes: list[str]
    paths: list[str]
    labels: NDArray[np.int64]
    probs_a: NDArray[np.float64]
    probs_b: NDArray[np.float64]
    predicted_a: NDArray[np.int64]
    predicted_b: NDArray[np.int64]

    def value(self, metric: Metric) -> tuple[float, float]:
        """What each of the two has of a metric."""
        if metric == "auroc":
            return auroc(self.probs_a, self.labels), auroc(self.probs_b, self.labels)
        ours, theirs = (float((said == self.labels).mean()) for said in (self.predicted_a, self.predicted_b))
        return ours, theirs

    def difference(self, metric: Metric, seed: int = 0) -> tuple[float, float, float]:
        """`paired` of the two; accuracy is that of what was decided for."""
        if metric == "auroc":
            return paired(self.labels, self.probs_a, self.probs_b, metric, seed)
        sure = np.eye(len(self.classes))
        return paired(self.labels, sure[self.predicted_a], sure[self.predicted_b], metric, seed)


def join(a: Path, b: Path, key: Callable[[str], str] = str, key_b: Callable[[str], str] | None = None) -> Joined:
    """Read two files of predictions (row, path, label, predicted, p_<class>) and join them by path.

    Args:
        a: one file, whose order of classes is taken.
        b: the other.
        key: what of a path must be the same in both.
        key_b: the same for the second file; None: as for the first.

    Raises:
        DataError: if a file cannot be read, or they have other rows, labels or classes.
    """
    classes, ours = read_predictions(a, key)
    classes_b, theirs = read_predictions(b, key_b or key)
    if set(classes) != set(classes_b):
        text = f"has the classes {', '.join(classes_b)}, but {a} has {', '.join(classes)}"
        raise DataError(Problem(str(b), f"{text}: they cannot be compared"))
    if classes != classes_b:
        place = [classes.index(name) for name in classes_b]
        from_b = [classes_b.index(name) for name in classes]
        theirs = {
            path: (place[label], place[predicted], [probs[k] for k in from_b])
            for path, (label, predicted, probs) in theirs.items()
        }
    if not ours:
        raise DataError(Problem(str(a), "has no row with a label"))
    if ours.keys() != theirs.keys():
        only = sorted(ours.keys() ^ theirs.keys())
        text = f"{len(only)} rows stand in one of {a} and it alone, as {only[0]}: they cannot be compared"
        raise DataError(Problem(str(b), text))
    if wrong := [path for path in ours if ours[path][0] != theirs[path][0]]:
        text = f"{len(wrong)} rows have another label than in {a}, as {wrong[0]}: they cannot be compared"
        raise DataError(Problem(str(b), text))
    paths = list(ours)
    label, predicted_a, probs_a = zip(*(ours[path] for path in paths), strict=True)
    _, predicted_b, probs_b = zip(*(theirs[path] for path in paths), strict=True)
    return Joined(
        classes,
        paths,
        np.array(label),
        np.array(probs_a),
        np.array(probs_b),
        np.array(predicted_a),
        np.array(predicted_b),
    )


def read_predictions(
    path: Path, key: Callable[[str], str] = str
) -> tuple[list[str], dict[str, tuple[int, int, list[float]]]]:
    """Names of the classes; and of each row with a label, by its path, label, prediction and probabilities."""
    if not path.is_file():
        raise DataError(Problem(str(path), "there is no such file of predictions"))
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if header[:4] != ["row", "path", "label", "predicted"] or not rows:
        raise DataError(Problem(str(path), "is no file of predictions: row, path, label, predicted, p_CLASS …"))
    classes = [name.removeprefix("p_") for name in header[4:]]
    number = {name: place for place, name in enumerate(classes)}
    known: dict[str, tuple[int, int, list[float]]] = {}
    for _, written, label, predicted, *probs in rows:
        name = key(written)
        if not label:
            continue
        if not {label, predicted} <= number.keys():
            raise DataError(Problem(str(path), f"the row of {name} names a class without a column p_CLASS"))
        if name in known:
            raise DataError(Problem(str(path), f"holds {name} twice, so its rows cannot be told apart"))
        known[name] = number[label], number[predicted], [float(p) for p in probs]
    return classes, known
