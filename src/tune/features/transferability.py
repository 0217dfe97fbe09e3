"""How well the features of a frozen backbone suit some labels, before anything trains. NumPy, float64, no torch.

    log_me(features, labels)                                           # higher is better, as with all of them
    accuracy(probe(train, train_labels, val), val_labels)

F is features (N, D), y labels (N,) from 0 to K - 1, of which every class occurs.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

_NEIGHBOURS = 5
_PROBE_C = 10.0  # of rows whose mean square is 1, so that it means the same for few features and for many
_TINY = 1e-12
_ROUNDED = 1e-13  # share of the largest eigenvalue below which one is rounding
_ITERATIONS = 200


def log_me(features: Array, labels: Labels) -> float:
    """Logarithm of the maximum evidence of a linear model with Gaussian noise, per row, mean over one-hot labels.

    For each column t of the one-hot labels the prior precision α and the noise precision β maximise
    ``log p(t | F, α, β)``. MacKay's iteration: ``γ = Σ βσ/(α + βσ)`` over the eigenvalues σ of FᵀF,
    ``α = γ / |m|²``, ``β = (N - γ) / |Fm - t|²``, where ``m = β (αI + βFᵀF)⁻¹ Fᵀt``.

    Source: You et al. 2021, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", eq. 2 and
    algorithm 1. We decompose the smaller of FᵀF and FFᵀ, they F; we iterate to a relative change of 1e-6 in α/β, they
    to 1e-3; α and β are bounded where labels are exactly linear in the features or independent of them, theirs by 1e-5.
    """
    rows, dim = features.shape
    classes = np.unique(labels)
    one_hot = (labels[:, None] == classes).astype(np.float64)  # (N, K)
    if dim < rows:
        sigma, right = np.linalg.eigh(features.T @ features)
        kept = sigma > _ROUNDED * max(sigma[-1], _TINY)
        sigma = sigma[kept]
        inside = (right[:, kept].T @ (features.T @ one_hot)) ** 2 / sigma[
            :, None
        ]  # (R, K) each direction's share of |t|²
    else:
        sigma, left = np.linalg.eigh(features @ features.T)
        kept = sigma > _ROUNDED * max(sigma[-1], _TINY)
        sigma, inside = sigma[kept], (left[:, kept].T @ one_hot) ** 2
    outside = np.maximum(one_hot.sum(axis=0) - inside.sum(axis=0), 0.0)  # (K,)
    each = [_evidence(sigma, inside[:, k], float(outside[k]), rows, dim) for k in range(len(classes))]
    return float(np.mean(each)) / rows


def _evidence(sigma: Array, inside: Array, outside: float, rows: int, dim: int) -> float:
    """The largest log p(t | F, α, β) of one target."""

    def solve(alpha: float, beta: float) -> tuple[float, float, float]:
        """γ, |m|² and |Fm - t|²."""
        precision = alpha + beta * sigma
        weight = float((beta**2 * sigma * inside / precision**2).sum())
        residual = float((inside * (alpha / precision) ** 2).sum()) + outside
        return float((beta * sigma / precision).sum()), max(weight, _TINY), max(residual, _TINY)

    alpha = beta = 1.0
    for _ in range(_ITERATIONS):
        gamma, weight, residual = solve(alpha, beta)
        before = alpha / beta
        alpha, beta = max(gamma, _TINY) / weight, max(rows - gamma, _TINY) / residual
        alpha, beta = min(alpha, 1 / _TINY), min(beta, 1 / _TINY)
        if abs(alpha / beta - before) <= 1e-6 * before:
            break
    _, weight, residual = solve(alpha, beta)
    log_det = float(np.log(alpha + beta * sigma).sum()) + (dim - len(sigma)) * np.log(alpha)
    fit = rows * np.log(beta) + dim * np.log(alpha) - rows * np.log(2 * np.pi)
    return 0.5 * (fit - beta * residual - alpha * weight - log_det)


def h_score(features: Array, labels: Labels) -> float:
    """How far class means lie apart, in units of the features' own spread: between 0 and K - 1.

    ``(1 - λ) tr(C⁻¹ B)``, where B is the covariance of the rows' class means, and C that of the features after
    shrinkage, ``(1 - λ) S + λ tr(S)/D · I`` with Ledoit and Wolf's λ.

    Source: Bao et al. 2019, "An Information-Theoretic Approach to Transferability in Task Transfer Learning",
    definition 2, which inverts S itself; that is singular with fewer rows than features. The shrinkage and its factor
    before B are those of Ibrahim et al. 2022, "Newer is not always better", eq. 5.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    centred = features - features.mean(axis=0)
    rows, dim = centred.shape
    if not centred.any():
        return 0.0
    shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    covariance = centred.T @ centred / rows
    covariance *= 1 - shrinkage
    covariance.flat[:: dim + 1] += shrinkage * float((centred**2).sum()) / (rows * dim)
    classes = np.unique(labels)
    # B = MᵀM, of rank K - 1: one row for each class.
    means = np.stack([centred[labels == k].mean(axis=0) * np.sqrt((labels == k).mean()) for k in classes])  # (K, D)
    solved = np.linalg.lstsq(covariance, means.T, rcond=None)[0]  # (D, K); S may be singular where nothing is shrunk
    return (1 - shrinkage) * float((means.T * solved).sum())


def leep(source_probs: Array, labels: Labels) -> float:
    """Mean log-likelihood of labels that are told from the classes which the source's own classifier sees.

    With θ (N, Z), ``P(y, z) = Σ_{i: y_i = y} θ_iz / N`` and ``P(y | z) = P(y, z) / P(z)`` it is the mean of
    ``log Σ_z P(y_i | z) θ_iz``; at most 0.

    Source: Nguyen et al. 2020, "LEEP: A New Measure to Evaluate Transferability of Learned Representations", eq. 2.

    Args:
        source_probs: θ (N, Z), what the source's classifier gives each of its Z classes.
        labels: (N,).
    """
    classes, index = np.unique(labels, return_inverse=True)
    joint = np.stack([source_probs[index == k].sum(axis=0) for k in range(len(classes))])  # (K, Z)
    conditional = joint / np.maximum(joint.sum(axis=0), _TINY)
    likelihood = (conditional[index] * source_probs).sum(axis=1)  # (N,)
    return float(np.log(np.maximum(likelihood, _TINY)).mean())


def neighbours(features: Array, labels: Labels, others: Array) -> Labels:
    """The class of other rows (M, D) by their 5 nearest in angle; each votes with its cosine. (M,)"""
    rows, asked = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), _TINY) for each in (features, others))
    classes, index = np.unique(labels, return_inverse=True)
    said = np.empty(len(asked), np.int64)
    for start in range(0, len(asked), 1024):  # (1024, N) at once, not (M, N)
        cosine = asked[start : start + 1024] @ rows.T
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :_NEIGHBOURS]
        votes = np.zeros((len(cosine), len(classes)))
        # 1 + cosine is never negative, so that a vote is never one against.
        np.add.at(votes, (np.arange(len(cosine))[:, None], index[nearest]), 1 + np.take_along_axis(cosine, nearest, 1))
        said[start : start + 1024] = votes.argmax(axis=1)
    return classes[said].astype(np.int64)


def probe(features: Array, labels: Labels, others: Array) -> Labels:
    """The class of other rows (M, D) by a logistic regression, (M,): on standardised features over √D, with C = 10."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler, scale = StandardScaler().fit(features), 1 / np.sqrt(features.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is told of rows settles long before the weights
        model = LogisticRegression(C=_PROBE_C, max_iter=200, tol=1e-3).fit(scaler.transform(features) * scale, labels)
    return model.predict(scaler.transform(others) * scale).astype(np.int64)


def accuracy(said: Labels, labels: Labels) -> float:
    """Share of rows told right."""
    return float((said == labels).mean())


def balanced_accuracy(said: Labels, labels: Labels) -> float:
    """Mean over the classes of the share of their rows told right."""
    return float(np.mean([(said[labels == k] == k).mean() for k in np.unique(labels)]))
