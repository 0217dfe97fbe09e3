"""From probabilities to a decision between two classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from torch import Tensor


def decide(probs: Tensor, threshold: float | None = None) -> Tensor:
    """The class of each row, (..., N) int64, of probabilities (..., N, K).

    Args:
        probs: probabilities.
        threshold: class 1 where its probability is above it, of two classes; None: the likeliest class, which is a
            threshold of 0.5.
    """
    return probs.argmax(dim=-1) if threshold is None else (probs[..., 1].double() > threshold).long()


def refuse_threshold(wanted: float | str | None, num_classes: int) -> None:
    """Refuse a threshold where there is no second of two classes.

    Raises:
        ConfigError: if there are more.
    """
    if wanted is not None and num_classes != 2:
        text = f"decides between two classes, and there are {num_classes}: leave it out, the likeliest class is taken"
        raise ConfigError(Problem("threshold", text))


def find_threshold(wanted: float | str | None, probs: Tensor, labels: Tensor) -> float | None:
    """The threshold that a run decides by: the number that was given, or the best for a metric on some rows.

    Tried are 0.5, the middle between any two neighbouring probabilities, and one below and above all of them; other
    values decide as one of these does. Of several that are best, the nearest to 0.5 (the lower, of two as near).

    Args:
        wanted: a number, "accuracy", "balanced_accuracy" or "f1" (of class 1); None for no threshold.
        probs: (N, 2) on the CPU.
        labels: (N,).
    """
    if not isinstance(wanted, str):
        return wanted
    scores, order = probs[:, 1].double().sort()
    positive = (labels[order] == 1).long()
    edges = torch.cat([scores.new_zeros(1), scores.unique(), scores.new_ones(1)])
    tried = torch.cat([(edges[:-1] + edges[1:]) / 2, scores.new_full((1,), 0.5)]).unique()
    tried = tried[(tried > 0) & (tried < 1)]
    below = torch.searchsorted(scores, tried, right=True)  # rows of class 0, by each
    missed = torch.cat([positive.new_zeros(1), positive.cumsum(0)])[below]
    positives, negatives = int(positive.sum()), int((1 - positive).sum())
    hits, rejected = positives - missed, below - missed
    if wanted == "f1":
        value = 2 * hits / (positives + len(labels) - below).clamp_min(1)
    elif wanted == "balanced_accuracy":  # times both sizes, so that equals are equal
        value = hits * max(negatives, 1) + rejected * max(positives, 1)
    else:
        value = hits + rejected
    best = tried[value == value.max()]
    return float(best[(best - 0.5).abs().argmin()])
