"""How the probabilities of M members become one: arithmetic only."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """How members decide together.

    Args:
        how: average, vote, boost or stack.
        groups: members whose probabilities are averaged first, as those of all folds; empty: each stands alone.
        weights: of each member, for `boost`.
        coefficients: of a logistic regression on log-probabilities of the M groups, (K, M · K), for `stack`.
        intercept: (K,), for `stack`.
    """

    how: str
    groups: list[list[int]] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    coefficients: list[list[float]] = field(default_factory=list)
    intercept: list[float] = field(default_factory=list)

    def apply(self, probs: Tensor) -> Tensor:
        """Probabilities (N, K) from those of M members (M, N, K)."""
        if self.groups:
            probs = torch.stack([probs[group].double().mean(dim=0).float() for group in self.groups])
        if self.how == "average":
            return probs.double().mean(dim=0).float()
        if self.how == "stack":
            scores = stack_inputs(probs) @ torch.tensor(self.coefficients, dtype=torch.float64).T
            return (scores + torch.tensor(self.intercept, dtype=torch.float64)).softmax(dim=1).float()
        weights = torch.tensor(self.weights or [1.0] * len(probs), dtype=torch.float64)
        votes = torch.nn.functional.one_hot(probs.argmax(dim=2), probs.shape[2]).double()  # (M, N, K)
        shares = torch.einsum("m,mnk->nk", weights / weights.sum(), votes)
        # A tie goes by the average, which is too small to outweigh any vote.
        tiny = 1e-6 * float(weights[weights > 0].min() / weights.sum())
        return ((shares + tiny * probs.double().mean(dim=0)) / (1 + tiny)).float()

    def as_json(self) -> dict[str, Any]:
        """What ensemble.json says of it."""
        return asdict(self)


def stack_inputs(probs: Tensor) -> Tensor:
    """(N, M · K) float64: log-probabilities of M members (M, N, K), each row's mean over the classes taken off."""
    logs = probs.double().clamp_min(1e-6).log()
    return (logs - logs.mean(dim=2, keepdim=True)).permute(1, 0, 2).flatten(1)


def fit_stack(probs: Tensor, labels: Tensor, groups: list[list[int]]) -> tuple[Recipe, Tensor]:
    """A stack, and what it says (N, K) of rows that it was learned from, each left out of its own learning.

    Wolpert 1992, "Stacked generalization", with a logistic regression (scikit-learn's, L2 with C = 1, standardised
    inputs) as the level-1 generaliser, on the log-probabilities of the level-0 models.

    Args:
        probs: (M, N, K) of rows that the members were not trained on.
        labels: (N,), of every class at least 5 rows.
        groups: of the recipe.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    inputs, classes = stack_inputs(probs).numpy(), probs.shape[2]
    scaler, regression = StandardScaler(), LogisticRegression(max_iter=1000)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    both = make_pipeline(scaler, regression)
    outside = cross_val_predict(both, inputs, labels.numpy(), cv=folds, method="predict_proba")
    regression.fit(scaler.fit_transform(inputs), labels.numpy())
    coefficients, intercept = regression.coef_ / np.asarray(scaler.scale_), regression.intercept_
    if classes == 2:  # one row for the second class: the sigmoid is the softmax of this and its opposite
        coefficients, intercept = (
            np.concatenate([-coefficients, coefficients]) / 2,
            np.stack([-intercept, intercept]) / 2,
        )
        intercept = intercept.reshape(2)
    intercept = intercept - coefficients @ np.asarray(scaler.mean_)
    recipe = Recipe("stack", groups, coefficients=coefficients.tolist(), intercept=intercept.tolist())
    return recipe, torch.from_numpy(outside).float()


def boost_weight(error: float, classes: int, rows: int) -> float:
    """Weight of a member's vote, from its weighted error on the training rows.

    Zhu et al. 2009, "Multi-class AdaBoost", algorithm 2 (SAMME), step 2c: ``log((1 - e) / e) + log(K - 1)``. An error
    below half a row counts as that, and a member no better than chance has no vote.
    """
    error = max(error, 0.5 / rows)
    return max(0.0, float(np.log((1 - error) / error) + np.log(classes - 1)))
