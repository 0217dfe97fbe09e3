"""Whether probabilities can be taken at their word, and the one number that repairs them. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Bin:
    """Rows whose highest probability lies in one of equal ranges of (0, 1].

    Args:
        count: how many.
        confidence: mean of their highest probabilities; 0 in an empty bin.
        accuracy: share of them whose likeliest class is right; 0 in an empty bin.
    """

    count: int
    confidence: float
    accuracy: float


def reliability(labels: NDArray[np.int64], probs: NDArray[np.float64], bins: int = BINS) -> list[Bin]:
    """The reliability diagram of the likeliest class: (N,) labels, (N, K) probabilities → `bins` bins.

    Source: Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 2.
    """
    highest, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    places = np.clip(np.ceil(highest * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for place in range(bins):
        inside = places == place
        count = int(inside.sum())
        found.append(Bin(count, float(highest[inside].mean()), float(right[inside].mean())) if count else Bin(0, 0, 0))
    return found


def expected_error(labels: NDArray[np.int64], probs: NDArray[np.float64], bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over the bins, weighted by their rows.

    Source: as `reliability`, equation 3.

    Args:
        labels: (N,), N > 0.
        probs: (N, K).
        bins: how many.
    """
    diagram = reliability(labels, probs, bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in diagram) / len(labels)


def temperature(labels: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """The T above 0 whose softmax(log p / T) makes the labels likeliest, between 0.05 and 20.

    Source: as `reliability`, section 4.2 and equation 9. Logits and log-probabilities differ by a constant per row,
    which the softmax does not see, so that probabilities suffice.

    Args:
        labels: (N,), N > 0, of rows that did not train.
        probs: (N, K).
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return float(-np.log(tempered(probs, float(np.exp(log_t)))[np.arange(len(labels)), labels] + _SMALLEST).mean())

    found: Any = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x))


def tempered(probs: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Probabilities (N, K) at another temperature: softmax(log p / t)."""
    scaled = np.log(np.maximum(probs, _SMALLEST)) / t
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)
