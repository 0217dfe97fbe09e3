"""95 % intervals of metrics, from the predictions of one fixed set of rows. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
_AT_ONCE = 1_000_000  # numbers drawn at once
Z = 1.959964  # 97.5 % point of the normal distribution


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Interval of a share of `hits` among `n` rows.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference", p. 210.
    """
    share, z2 = hits / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def of_confusion(confusion: NDArray[np.int64], seed: int = 0) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of balanced_accuracy, f1_macro and (two classes) f1 of class 1.

    Drawing rows with replacement is drawing the cells of the confusion matrix from a multinomial, so the rows
    themselves are not needed.

    Args:
        confusion: (K, K), true class by predicted class.
        seed: of the resampling.
    """
    n, classes = int(confusion.sum()), len(confusion)
    draws = np.random.default_rng(seed).multinomial(n, (confusion / n).ravel(), size=RESAMPLES)
    draws = draws.reshape(RESAMPLES, classes, classes)
    right = np.einsum("rkk->rk", draws)
    true, predicted = draws.sum(axis=2), draws.sum(axis=1)
    recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
    f1 = np.where(true + predicted > 0, 2 * right / np.maximum(true + predicted, 1), np.nan)
    found = {"balanced_accuracy": middle(np.nanmean(recall, axis=1)), "f1_macro": middle(np.nanmean(f1, axis=1))}
    if classes == 2:
        found["f1"] = middle(np.nan_to_num(f1[:, 1]))
    return found


def of_auroc(probs: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the area under the ROC curve; one class against the rest, averaged, beyond two.

    Args:
        probs: (N, K).
        labels: (N,).
        seed: of the resampling.
    """
    means = resampled_auroc(probs, labels, seed)
    means = means[~np.isnan(means)]
    return middle(means) if len(means) else (0.0, 1.0)


def auroc(probs: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The area itself, over all rows; NaN where there is one class only. Arguments as for `of_auroc`."""
    return float(_mean_areas(probs, labels, np.ones((1, len(labels)), dtype=np.int32))[0])


def resampled_auroc(probs: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.float64]:
    """The area in each resample (R,), the same resamples for the same N, K and seed; NaN where one has one class only.

    Arguments as for `of_auroc`.
    """
    n, classes = probs.shape
    resamples = int(np.clip(4e8 // (n * classes), 50, RESAMPLES))
    return np.concatenate([_mean_areas(probs, labels, weights) for weights in drawn(n, resamples, seed)])


def _mean_areas(probs: NDArray, labels: NDArray[np.int64], weights: NDArray) -> NDArray[np.float64]:
    """Area (R,) for each row of `weights` (R, N): of class 1 of two, else the mean over classes that are there."""
    classes = probs.shape[1]
    of_class = [1] if classes == 2 else range(classes)
    areas = np.stack([_weighted_auroc(probs[:, k], labels == k, weights) for k in of_class])
    seen = ~np.isnan(areas)
    with np.errstate(invalid="ignore"):
        return np.where(seen.any(axis=0), np.where(seen, areas, 0).sum(axis=0) / seen.sum(axis=0), np.nan)


def drawn(n: int, resamples: int, seed: int) -> Iterable[NDArray[np.int32]]:
    """How often each of `n` rows is drawn in each resample, some resamples (r, N) at a time."""
    return (_drawn_once if n * resamples <= _AT_ONCE else _drawn)(n, resamples, seed)


def _drawn(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    rng, some = np.random.default_rng(seed), max(1, _AT_ONCE // n)
    for start in range(0, resamples, some):
        size = min(some, resamples - start)
        yield rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.int32)


@lru_cache(maxsize=1)
def _drawn_once(n: int, resamples: int, seed: int) -> list[NDArray[np.int32]]:
    """The same, kept: the trials of a sweep ask for the same."""
    return list(_drawn(n, resamples, seed))


def _weighted_auroc(scores: NDArray, positive: NDArray[np.bool_], weights: NDArray) -> NDArray:
    """Area for each row of `weights` (R, N), ties counted half; NaN where a resample has one class only."""
    _, rank = np.unique(scores, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * positive[order], starts, axis=1)
    negatives = np.add.reduceat(ordered, starts, axis=1) - positives
    below = np.cumsum(negatives, axis=1) - negatives / 2
    total = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.where(total > 0, (positives * below).sum(axis=1) / np.maximum(total, 1), np.nan)


def middle(values: NDArray) -> tuple[float, float]:
    """The middle 95 % of some values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
