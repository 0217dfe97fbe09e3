"""Each score against a slow formula of its own, and where it must end up."""

from __future__ import annotations

from math import log, pi, sqrt

import numpy as np
import pytest
from scipy.optimize import minimize

from tune.features import transferability as scores


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def planted(draw, rows=60, dim=8, classes=3, apart=1.0):
    """Rows around one centre per class."""
    labels = np.arange(rows) % classes
    centres = draw.normal(size=(classes, dim)) * apart
    return centres[labels] + draw.normal(size=(rows, dim)), labels


def evidence(features, target, alpha, beta):
    """log N(t | 0, I/β + FFᵀ/α), the marginal of a linear model."""
    covariance = np.eye(len(target)) / beta + features @ features.T / alpha
    _, log_det = np.linalg.slogdet(covariance)
    return -0.5 * (len(target) * log(2 * pi) + log_det + target @ np.linalg.solve(covariance, target))


@pytest.mark.parametrize(("rows", "dim"), [(40, 5), (40, 39), (24, 60)])
def test_log_me_is_the_largest_evidence_that_a_search_finds(draw, rows, dim):
    features, labels = planted(draw, rows, dim, apart=0.5)
    best = []
    for k in range(3):
        target = (labels == k).astype(float)
        starts = [(a, b) for a in (-2.0, 2.0, 5.0) for b in (0.0, 3.0)]
        found = [
            minimize(
                lambda logs, t=target: -evidence(features, t, *np.exp(np.clip(logs, -15, 15))),
                start,
                method="Nelder-Mead",
            )
            for start in starts
        ]
        best.append(-min(each.fun for each in found) / rows)
    assert scores.log_me(features, labels) == pytest.approx(np.mean(best), abs=1e-5)


def test_log_me_knows_neither_rotation_nor_unit_nor_names_of_classes(draw):
    features, labels = planted(draw)
    rotation, _ = np.linalg.qr(draw.normal(size=(8, 8)))
    expected = scores.log_me(features, labels)
    assert scores.log_me(features @ rotation, labels) == pytest.approx(expected, abs=1e-6)
    assert scores.log_me(features * 37, labels) == pytest.approx(expected, abs=1e-6)
    assert scores.log_me(features, 2 - labels) == pytest.approx(expected, abs=1e-6)


def slow_h_score(features, labels):
    """Every sum a loop; λ after Ledoit and Wolf 2004, section 3.3."""
    rows, dim = features.shape
    mean = [sum(row[j] for row in features) / rows for j in range(dim)]
    centred = [[row[j] - mean[j] for j in range(dim)] for row in features]
    sample = np.array([[sum(row[i] * row[j] for row in centred) / rows for j in range(dim)] for i in range(dim)])
    mu = sum(sample[i, i] for i in range(dim)) / dim
    delta = sum((sample[i, j] - mu * (i == j)) ** 2 for i in range(dim) for j in range(dim)) / dim
    beta = 0.0
    for row in centred:
        beta += sum((row[i] * row[j] - sample[i, j]) ** 2 for i in range(dim) for j in range(dim)) / dim / rows**2
    shrinkage = min(beta, delta) / delta
    covariance = (1 - shrinkage) * sample + shrinkage * mu * np.eye(dim)
    between = np.zeros((dim, dim))
    for label in labels:
        own = [row for row, other in zip(centred, labels, strict=True) if other == label]
        centre = np.array([sum(row[j] for row in own) / len(own) for j in range(dim)])
        between += np.outer(centre, centre) / rows
    return (1 - shrinkage) * np.trace(np.linalg.inv(covariance) @ between)


@pytest.mark.parametrize(("rows", "dim"), [(30, 4), (12, 20)])
def test_h_score_is_its_formula(draw, rows, dim):
    features, labels = planted(draw, rows, dim)
    assert scores.h_score(features, labels) == pytest.approx(slow_h_score(features, labels), rel=1e-9)


def test_h_score_stays_below_the_number_of_classes_less_one(draw):
    features, labels = planted(draw, rows=200, apart=100.0)
    assert 1.99 < scores.h_score(features, labels) <= 2.0
    assert scores.h_score(np.ones((6, 3)), np.arange(6) % 2) == 0.0


def slow_leep(theta, labels):
    rows, sources = len(theta), len(theta[0])
    total = 0.0
    for i in range(rows):
        likelihood = 0.0
        for z in range(sources):
            joint = sum(theta[j][z] for j in range(rows) if labels[j] == labels[i]) / rows
            likelihood += joint / (sum(theta[j][z] for j in range(rows)) / rows) * theta[i][z]
        total += log(likelihood) / rows
    return total


def test_leep_is_its_formula(draw):
    theta = draw.dirichlet(np.ones(5), size=20)
    labels = np.arange(20) % 3
    assert scores.leep(theta, labels) == pytest.approx(slow_leep(theta.tolist(), labels.tolist()), abs=1e-12)


def test_leep_is_zero_when_source_classes_tell_the_labels_and_their_entropy_when_they_tell_nothing():
    labels = np.array([0, 0, 0, 1])
    telling = np.eye(4)[[2, 3, 2, 0]]
    assert scores.leep(telling, labels) == pytest.approx(0.0, abs=1e-12)
    silent = np.full((4, 3), 1 / 3)
    assert scores.leep(silent, labels) == pytest.approx(0.75 * log(0.75) + 0.25 * log(0.25), abs=1e-12)


def slow_neighbours(features, labels, others):
    said = []
    for other in others:
        pairs = []
        for number, row in enumerate(features):
            norm = sqrt(sum(a * a for a in row)) * sqrt(sum(a * a for a in other))
            pairs.append((-sum(a * b for a, b in zip(row, other, strict=True)) / norm, number))
        votes = {}
        for minus_cosine, number in sorted(pairs)[:5]:
            votes[labels[number]] = votes.get(labels[number], 0.0) + 1 - minus_cosine
        said.append(max(sorted(votes), key=lambda label: votes[label]))
    return said


def test_neighbours_vote_as_in_a_loop(draw):
    features, labels = planted(draw, apart=0.4)
    others, _ = planted(draw, rows=30, apart=0.4)
    assert scores.neighbours(features, labels, others).tolist() == slow_neighbours(features, labels, others)


def test_the_probe_is_the_regression_that_a_plain_search_finds(draw):
    features, labels = planted(draw, rows=50, dim=3, classes=2, apart=0.7)
    features *= [1.0, 30.0, 0.01]
    others = draw.normal(size=(200, 3)) * [1.0, 30.0, 0.01]
    mean, spread = features.mean(axis=0), features.std(axis=0)
    rows, signs = (features - mean) / spread / sqrt(3), 2 * labels - 1

    def loss(weights):
        return 0.5 * weights[:3] @ weights[:3] + 10 * np.logaddexp(0, -signs * (rows @ weights[:3] + weights[3])).sum()

    found = minimize(loss, np.zeros(4)).x
    margin = (others - mean) / spread / sqrt(3) @ found[:3] + found[3]
    clear = np.abs(margin) > 0.02
    assert clear.sum() > 150
    np.testing.assert_array_equal(scores.probe(features, labels, others)[clear], (margin > 0)[clear])


def test_balanced_accuracy_counts_classes_and_accuracy_rows():
    labels, said = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])
    assert scores.accuracy(said, labels) == 0.75
    assert scores.balanced_accuracy(said, labels) == 0.5


@pytest.mark.parametrize("dim", [8, 200])
def test_every_score_tells_separated_classes_from_permuted_labels_and_from_noise(draw, dim):
    features, labels = planted(draw, rows=120, dim=dim, apart=3.0)
    others, asked = features[60:], labels[60:]
    noise, permuted = draw.normal(size=features.shape), draw.permutation(labels)

    def all_scores(rows, own):
        theta = np.exp(rows[:, :5] - rows[:, :5].max(axis=1, keepdims=True))
        theta /= theta.sum(axis=1, keepdims=True)
        return {
            "log_me": scores.log_me(rows, own),
            "h_score": scores.h_score(rows, own),
            "leep": scores.leep(theta, own),
            "knn": scores.accuracy(scores.neighbours(rows[:60], own[:60], rows[60:]), own[60:]),
            "probe": scores.accuracy(scores.probe(rows[:60], own[:60], rows[60:]), own[60:]),
        }

    separated = all_scores(features, labels)
    assert scores.accuracy(scores.neighbours(features[:60], labels[:60], others), asked) == 1.0
    assert scores.accuracy(scores.probe(features[:60], labels[:60], others), asked) == 1.0
    for worse in (all_scores(features, permuted), all_scores(noise, labels)):
        assert all(separated[name] > worse[name] + 0.05 for name in separated)
        assert worse["knn"] < 0.6
        assert worse["probe"] < 0.6


def test_labels_that_are_linear_in_the_features_give_a_finite_score():
    labels = np.arange(30) % 3
    assert np.isfinite(scores.log_me(np.eye(3)[labels], labels))
    assert np.isfinite(scores.log_me(np.zeros((30, 2)), labels))
