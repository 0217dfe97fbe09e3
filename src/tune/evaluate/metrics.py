"""Metrics of predictions, each with a 95 % interval where it is asked for.

All trials of a fused sweep are measured at once, and a run alone by the same code: one that rounds otherwise would take
another epoch for the best where two are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics.functional import classification as tm

from tune.evaluate import intervals
from tune.evaluate.threshold import decide

if TYPE_CHECKING:
    from torch import Tensor


def measure(probs: Tensor, labels: Tensor, threshold: float | None = None) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1, ROC AUC and (two classes) F1 of class 1, as fractions of 1.

    A set without one of the classes has no ROC AUC for it; with one class only `auroc` is left out.

    Args:
        probs: (N, K) float, on the CPU.
        labels: (N,) int64.
        threshold: by which two classes are told apart, see `decide`.
    """
    return {name: float(values[0]) for name, values in measure_many(probs[None], labels, threshold).items()}


def measure_many(probs: Tensor, labels: Tensor, threshold: float | None = None) -> dict[str, Tensor]:
    """What `measure` says of each of several sets of predictions of the same rows, in one go; each (T,) float64.

    One call for each trial of a fused sweep would cost more than its training.

    Args:
        probs: (T, N, K) float, on the CPU.
        labels: (N,) int64.
        threshold: by which two classes are told apart, see `decide`.
    """
    trials, rows, classes = probs.shape
    cells = torch.arange(trials)[:, None] * classes**2 + labels * classes + decide(probs, threshold)  # (T, N)
    confusion = torch.bincount(cells.flatten(), minlength=trials * classes**2).reshape(trials, classes, classes)
    right, true, predicted = confusion.diagonal(dim1=1, dim2=2).double(), confusion.sum(2), confusion.sum(1)
    present, occurs = true[0] > 0, true + predicted > 0
    f1 = 2 * right / (true + predicted).clamp_min(1)
    found = {
        "accuracy": right.sum(dim=1) / rows,
        "balanced_accuracy": (right[:, present] / true[:, present]).mean(dim=1),
        "f1_macro": f1.sum(dim=1) / occurs.sum(dim=1),
    }
    if classes == 2:
        found["f1"] = f1[:, 1]
    if int(present.sum()) > 1:
        chosen = [1] if classes == 2 else present.nonzero().flatten().tolist()
        found["auroc"] = torch.stack([_areas(probs[:, :, k].double(), labels == k) for k in chosen]).mean(dim=0)
    return found


def _areas(scores: Tensor, positive: Tensor) -> Tensor:
    """(T,) areas under the ROC curve of scores (T, N), from the ranks of the positive rows (Mann and Whitney)."""
    ordered = scores.sort(dim=1).values
    seen = scores[:, positive].contiguous()
    below = torch.searchsorted(ordered, seen), torch.searchsorted(ordered, seen, right=True)
    positives = int(positive.sum())
    ranks = (below[0] + below[1]).double().sum(dim=1) / 2  # of a tie: the middle
    return (ranks - positives**2 / 2) / (positives * (len(positive) - positives))


def infomax(probs: Tensor) -> float:
    """Mutual information of rows and predicted classes, nats, 0 to ln K: rows are decided, and not all alike.

    ``H(mean p) - mean H(p)``; needs no label. It prefers classes of equal size, so it misleads where they are not.

    Source: Bridle et al. 1991, "Unsupervised classifiers, mutual information and 'phantom targets'", eq. 11. The same.

    Args:
        probs: (N, K).
    """
    p, mean = probs.double(), probs.double().mean(dim=0)
    return float(torch.special.entr(mean).sum() - torch.special.entr(p).sum(dim=1).mean())


def confusion_matrix(probs: Tensor, labels: Tensor, threshold: float | None = None) -> Tensor:
    """(K, K) int64, true class by predicted class."""
    return tm.multiclass_confusion_matrix(decide(probs, threshold), labels, probs.shape[1])


def measure_intervals(probs: Tensor, labels: Tensor, threshold: float | None = None) -> dict[str, tuple[float, float]]:
    """95 % interval of each metric of `measure`: Wilson for accuracy, bootstrap over rows for the others.

    Where every resample gives the same value, as of rows that are all right, the bootstrap says nothing of other rows:
    that metric has no interval.
    """
    confusion = confusion_matrix(probs, labels, threshold)
    found = {"accuracy": intervals.wilson(int(confusion.diag().sum()), len(labels))}
    found |= intervals.of_confusion(confusion.numpy())
    if int((confusion.sum(dim=1) > 0).sum()) > 1:
        found["auroc"] = intervals.of_auroc(probs.double().numpy(), labels.numpy())
    return {name: (low, high) for name, (low, high) in found.items() if low < high}


def tell(
    result: dict[str, Any],
    counts: dict[str, int],
    probs: Tensor,
    labels: Tensor,
    loss: float,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Add to a result what is said of the test part: metrics, intervals, sizes of the parts, confusion matrix.

    Args:
        result: with `metrics`.
        counts: rows of each part.
        probs: (N, K) of the test rows.
        labels: (N,).
        loss: their mean loss.
        threshold: by which two classes are told apart, see `decide`.
    """
    named = {f"test/{name}": value for name, value in measure(probs, labels, threshold).items()}
    between = {f"test/{name}": value for name, value in measure_intervals(probs, labels, threshold).items()}
    return result | {
        "metrics": result["metrics"] | named | {"test/loss": loss},
        "intervals": between,
        "counts": counts | {"test": len(labels)},
        "confusion": confusion_matrix(probs, labels, threshold).tolist(),
    }
