"""Whether probabilities can be taken at their word, and the one number that repairs them. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
FEW = 50
"""Validation rows; see `doubt`."""
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
    """The T whose softmax(log p / T) makes the labels likeliest, from `COLDEST` to `HOTTEST`.

    It is one of these two where none between them is better: rows that are all right have no best T.

    Source: as `reliability`, section 4.2 and equation 9. Logits and log-probabilities differ by a constant per row,
    which the softmax does not see, so that probabilities suffice.

    Args:
        labels: (N,), N > 0, of rows that did not train.
        probs: (N, K).
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return float(-np.log(tempered(probs, float(np.exp(log_t)))[np.arange(len(labels)), labels] + _SMALLEST).mean())

    found: Any = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    edge = min((COLDEST, HOTTEST), key=lambda t: loss(float(np.log(t))))
    return edge if loss(float(np.log(edge))) <= found.fun + 1e-9 else float(np.exp(found.x))


def is_at_edge(t: float) -> bool:
    """Whether a fitted temperature is the end of the range rather than the best of it."""
    return t in (COLDEST, HOTTEST)


def doubt(t: float, rows: int) -> str:
    """Why a fitted temperature is not to be leaned on, and what to do; empty where nothing speaks against it.

    Fewer than `FEW` rows are few: where 2 is right, 95 % of fits lie in 0.6 to 8.6 with 16 rows, 1.0 to 5.3 with 30,
    1.1 to 3.3 with 50, 1.5 to 2.7 with 200 (two classes, 100 draws).

    Args:
        t: from `temperature`.
        rows: on which it was fitted.
    """
    more = "take more validation rows (data.split.val)"
    if is_at_edge(t):
        why = "every validation row is right" if t == COLDEST else "the network does no better than chance"
        return f"T = {t:g} is the edge of its range, as where {why}: these rows do not say which T is best; {more}"
    if rows < FEW:
        return f"{rows} validation rows are few: others of their kind may give half of this T, or twice as much; {more}"
    return ""


def tempered(probs: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Probabilities (N, K) at another temperature: softmax(log p / t)."""
    scaled = np.log(np.maximum(probs, _SMALLEST)) / t
    scaled = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return scaled / scaled.sum(axis=1, keepdims=True)
