"""Arithmetic of ensembles against loops, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tune.evaluate.ensemble import Recipe, boost_weight, fit_stack, stack_inputs


def members(count: int, rows: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, rows, classes, generator=torch.Generator().manual_seed(seed)).softmax(dim=2)


def test_the_average_is_the_mean_of_each_row():
    probs = members(4, 6, 3)
    found = Recipe("average").apply(probs)
    for row in range(6):
        for label in range(3):
            assert found[row, label] == pytest.approx(sum(float(probs[m, row, label]) for m in range(4)) / 4)


def test_each_member_has_one_vote_and_ties_go_by_the_average():
    probs = torch.tensor([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [0.45, 0.55]]])
    found = Recipe("vote").apply(probs)
    assert found.sum(dim=1) == pytest.approx([1, 1])
    assert found.argmax(dim=1).tolist() == [0, 0]  # 0.55 beside 0.45, 0.525 beside 0.475
    three = Recipe("vote").apply(members(3, 50, 4))
    votes = members(3, 50, 4).argmax(dim=2)
    for row in range(50):
        counts = np.bincount(votes[:, row], minlength=4)
        assert counts[int(three[row].argmax())] == counts.max()
        assert three[row].numpy() == pytest.approx(counts / 3, abs=1e-5)


def test_groups_are_averaged_before_they_vote():
    probs = members(4, 9, 3)
    found = Recipe("vote", groups=[[0, 1], [2, 3]]).apply(probs)
    pairs = torch.stack([probs[:2].mean(dim=0), probs[2:].mean(dim=0)])
    assert torch.allclose(found, Recipe("vote").apply(pairs))


@pytest.mark.parametrize(("error", "classes"), [(0.1, 2), (0.3, 2), (0.6, 4)])
def test_the_vote_of_a_boosted_member(error, classes):
    assert boost_weight(error, classes, 1000) == pytest.approx(
        math.log(1 - error) - math.log(error) + math.log(classes - 1)
    )
    weights = [boost_weight(0.2, classes, 100), boost_weight(0.4, classes, 100)]
    probs = members(2, 30, classes)
    scores = np.zeros((30, classes))
    for weight, predicted in zip(weights, probs.argmax(dim=2), strict=True):
        scores[np.arange(30), predicted] += weight
    found = Recipe("boost", weights=weights).apply(probs)
    assert found.numpy() == pytest.approx(scores / sum(weights), abs=1e-5)


def test_no_vote_for_a_guess_and_a_finite_one_for_a_perfect_member():
    assert boost_weight(0.5, 2, 100) == boost_weight(0.8, 2, 100) == 0
    assert boost_weight(0.75, 4, 100) == pytest.approx(0, abs=1e-12)
    assert boost_weight(0.0, 2, 100) == pytest.approx(math.log(199))


@pytest.mark.parametrize("classes", [2, 3])
def test_a_stack_is_the_logistic_regression_on_log_probabilities(classes):
    probs = members(3, 90, classes)
    labels = probs[0].argmax(dim=1)  # the first member is always right
    recipe, outside = fit_stack(probs, labels, [[0], [1], [2]])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(stack_inputs(probs), labels)
    assert recipe.apply(probs).numpy() == pytest.approx(model.predict_proba(stack_inputs(probs)), abs=1e-5)
    trust = np.abs(np.array(recipe.coefficients)).sum(axis=0).reshape(3, classes).sum(axis=1)
    assert trust.argmax() == 0
    assert float((outside.argmax(dim=1) == labels).double().mean()) > 0.85
