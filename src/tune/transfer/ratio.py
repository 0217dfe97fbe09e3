"""How much a row of the source looks like the target: the ratio of the densities, estimated from samples."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def by_classifier(source: NDArray[Any], target: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """p_t(x) / p_s(x) of each source row, (N,), from a logistic regression that tells the domains apart.

    ``p(target | x) / p(source | x) * N / M``, of each row by a model that was fitted without it (5 folds), with the
    regularization whose folds have the smallest log loss: where nothing tells the domains apart that is the strongest,
    and the ratios are near 1.

    Source: Bickel et al. 2009, "Discriminative Learning Under Covariate Shift", eq. 8; a plain logistic regression.

    Args:
        source: (N, D).
        target: (M, D).
        seed: of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([source, target]).astype(np.float64)
    domain = np.r_[np.zeros(len(source)), np.ones(len(target))]
    folds = StratifiedKFold(min(FOLDS, len(source), len(target)), shuffle=True, random_state=seed)
    best, chosen = np.inf, np.zeros(0)
    for strength in _STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        with warnings.catch_warnings():  # a fit that stops after 300 steps is judged like any other, by what it says
            warnings.filterwarnings("ignore", message="lbfgs failed to converge")
            said = np.asarray(cross_val_predict(model, x, domain, cv=folds, method="predict_proba"))[:, 1]
        loss = log_loss(domain, said)
        if loss >= best:
            break  # the loss has one minimum in the strength
        best, chosen = loss, said
    p = np.clip(chosen[: len(source)], 1e-12, 1 - 1e-12)
    return p / (1 - p) * len(source) / len(target)


def by_means(source: NDArray[Any], target: NDArray[Any], largest: float) -> NDArray[np.float64]:
    """Weights of the source rows, (N,), that bring the mean of their kernel features to the target's.

    ``argmin over 0 <= w <= largest of wᵀKw / 2 - κᵀw``, ``κ_i = N/M Σ_j k(s_i, t_j)``, with a Gaussian kernel as
    wide as the median distance.

    Source: Huang et al. 2006, "Correcting Sample Selection Bias by Unlabeled Data" (kernel mean matching), eq. 12. We
    leave their bound on the mean weight out; the caller divides by the mean.

    Args:
        source: (N, D).
        target: (M, D).
        largest: weight.
    """
    from scipy.optimize import minimize
    from scipy.spatial.distance import cdist

    mean, deviation = source.mean(axis=0), source.std(axis=0) + 1e-6
    source, target = (source - mean) / deviation, (target - mean) / deviation
    within, across = cdist(source, source, "sqeuclidean"), cdist(source, target, "sqeuclidean")
    width = 2 * np.median(within[np.triu_indices(len(source), 1)]) + 1e-12
    kernel = np.exp(-within / width)
    kappa = np.exp(-across / width).sum(axis=1) * len(source) / len(target)
    found = minimize(
        lambda w: (w @ kernel @ w / 2 - kappa @ w, kernel @ w - kappa),
        np.ones(len(source)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, largest)] * len(source),
    )
    return found.x


def effective_size(weights: NDArray[Any]) -> float:
    """Rows of equal weight that would say as much: ``(Σw)² / Σw²``. Kish 1965."""
    return float(weights.sum() ** 2 / np.square(weights).sum())
