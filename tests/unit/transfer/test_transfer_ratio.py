import numpy as np
import pytest

from tune.transfer.ratio import by_classifier, by_means, effective_size
from tune.transfer.tradaboost import boosted_weights


def gaussians(shift: float, n: int = 600, d: int = 3):
    draw = np.random.default_rng(0)
    source, target = draw.normal(size=(n, d)), draw.normal(size=(n, d))
    target[:, 0] += shift
    return source, target, np.exp(shift * source[:, 0] - shift**2 / 2)  # the true ratio of the densities


@pytest.mark.parametrize("estimate", ["classifier", "means"])
def test_weights_follow_the_true_ratio_of_two_gaussians(estimate):
    source, target, truth = gaussians(1.0)
    found = by_classifier(source, target, seed=0) if estimate == "classifier" else by_means(source, target, 20.0)
    assert np.corrcoef(found, truth)[0, 1] > (0.8 if estimate == "classifier" else 0.5)
    weighted = (found[:, None] * source).sum(axis=0) / found.sum()
    assert np.abs(weighted - target.mean(axis=0)).max() < 0.35 * np.abs(source.mean(axis=0) - target.mean(axis=0)).max()


def test_without_a_shift_the_weights_are_near_one():
    source, target, _ = gaussians(0.0, d=40)
    found = by_classifier(source, target, seed=0)
    assert np.abs(found - 1).max() < 0.2
    assert effective_size(found) > 0.98 * len(found)


def test_a_ratio_knows_of_unequal_numbers():
    source, target, _ = gaussians(0.0)
    assert by_classifier(source, target[:100], seed=0).mean() == pytest.approx(1, abs=0.1)
    assert by_means(source, target[:100], 20.0).mean() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("weights", "size"), [(np.ones(7), 7), (np.array([1.0, 0, 0]), 1), (np.array([2.0, 2, 0]), 2)])
def test_the_effective_size_counts_rows_of_equal_weight(weights, size):
    assert effective_size(weights) == pytest.approx(size)


def test_source_rows_that_contradict_the_target_fade():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(440, 2))
    labels = (x[:, 0] > 0).astype(int)
    contradict = np.zeros(440, dtype=bool)
    contradict[:150] = True
    labels[contradict] = 1 - labels[contradict]
    is_target = np.arange(440) >= 400
    weights = boosted_weights(x, labels, is_target, rounds=10)
    assert weights.mean() == pytest.approx(1)
    assert weights[contradict].mean() < 0.5 * weights[~contradict & ~is_target].mean()
