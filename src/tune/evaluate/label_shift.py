"""How often each class occurs in rows without labels, as far as a classifier's confusions tell. Torch-free."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def estimated_shares(labels: NDArray[np.int64], probs: NDArray[Any], target_probs: NDArray[Any]) -> NDArray[np.float64]:
    """(K,) shares of the classes among rows of the target, adding up to 1.

    The shares q >= 0 that best explain what is said of the target: ``C q = mean of target_probs``, column k of C the
    mean of `probs` over labelled rows of class k. Right where only the shares differ between the two, not the images.

    Source: Lipton et al. 2018, "Detecting and Correcting for Label Shift with Black Box Predictors" (BBSE), eq. 3, with
    probabilities and non-negative least squares instead of an inverse.

    Args:
        labels: (N,) of rows of the source that the classifier was not trained on.
        probs: (N, K) of them.
        target_probs: (M, K).
    """
    from scipy.optimize import nnls

    classes = probs.shape[1]
    columns = [probs[labels == k].mean(axis=0) if (labels == k).any() else np.eye(classes)[k] for k in range(classes)]
    found, _ = nnls(np.stack(columns, axis=1), target_probs.mean(axis=0))
    return found / found.sum() if found.sum() > 0 else np.full(classes, 1 / classes)


def shift(shares: NDArray[np.float64], source: NDArray[np.float64]) -> float:
    """Total variation distance of two sets of shares, 0 to 1: rows in a hundred that would have to change class."""
    return float(np.abs(shares - source).sum() / 2)
