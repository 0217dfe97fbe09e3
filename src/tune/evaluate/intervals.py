"""95 % intervals of metrics, from the predictions of one fixed set of rows. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
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
    found = {"balanced_accuracy": _middle(np.nanmean(recall, axis=1)), "f1_macro": _middle(np.nanmean(f1, axis=1))}
    if classes == 2:
        found["f1"] = _middle(np.nan_to_num(f1[:, 1]))
    return found


def of_auroc(probs: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the area under the ROC curve; one class against the rest, averaged, beyond two.

    Args:
        probs: (N, K).
        labels: (N,).
        seed: of the resampling.
    """
    n, classes = probs.shape
    resamples = int(np.clip(4e8 // (n * classes), 50, RESAMPLES))
    of_class = [1] if classes == 2 else range(classes)
    draw = _drawn_once if n * resamples <= _AT_ONCE else _drawn
    areas = np.concatenate(
        [
            np.stack([_weighted_auroc(probs[:, k], labels == k, weights) for k in of_class])
            for weights in draw(n, resamples, seed)
        ],
        axis=1,
    )
    with np.errstate(invalid="ignore"):
        seen = ~np.isnan(areas)
        means = np.where(seen, areas, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return _middle(means[seen.any(axis=0)]) if seen.any() else (0.0, 1.0)


def _drawn(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """How often each of `n` rows is drawn in each resample, some resamples (r, N) at a time."""
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


def _middle(values: NDArray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
