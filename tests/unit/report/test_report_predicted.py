"""What a page says of predictions, against scikit-learn."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn import metrics

from tune.report.predicted import Decided, by_class, curve_of, read_decided


@pytest.fixture
def decided():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 80)  # of four classes one has no row
    probs = draw.dirichlet([1, 1, 1, 0.3], 80).round(1)  # many ties
    return Decided(list("abcd"), np.arange(80), [f"row {i}" for i in range(80)], labels, probs.argmax(1), probs)


def test_numbers_of_each_class_are_those_of_scikit_learn(decided):
    p, r, f, n = metrics.precision_recall_fscore_support(
        decided.labels, decided.predicted, labels=range(4), zero_division=np.nan
    )
    for k, each in enumerate(by_class(decided)):
        assert (each.name, each.rows) == ("abcd"[k], n[k])
        for ours, theirs in ((each.precision, p[k]), (each.recall, r[k]), (each.f1, f[k])):
            assert np.isnan(theirs) if ours is None else ours == pytest.approx(theirs)
    assert (decided.confusion == metrics.confusion_matrix(decided.labels, decided.predicted, labels=range(4))).all()


def test_curves_and_areas_are_those_of_scikit_learn(decided):
    for k in range(3):
        is_k, scores, curve = decided.labels == k, decided.probs[:, k], curve_of(decided, k)
        assert curve.area == pytest.approx(metrics.roc_auc_score(is_k, scores))
        assert curve.average == pytest.approx(metrics.average_precision_score(is_k, scores))
        false_rate, recall, _ = metrics.roc_curve(is_k, scores, drop_intermediate=False)
        np.testing.assert_allclose(curve.false_rate, false_rate)
        np.testing.assert_allclose(curve.recall, recall)
        precision, _, _ = metrics.precision_recall_curve(is_k, scores)
        np.testing.assert_allclose(curve.precision, precision[::-1])
        said = decided.predicted == k
        expected = [(said & ~is_k).sum() / (~is_k).sum(), (said & is_k).sum() / is_k.sum()]
        np.testing.assert_allclose(curve.point[:2], expected)
        assert curve.point[2] == pytest.approx(metrics.precision_score(is_k, said))
    assert curve_of(decided, 3) is None


def test_the_surest_mistakes_come_first(decided):
    places = decided.surest_mistakes(5)
    wrong = [i for i in range(80) if decided.labels[i] != decided.predicted[i]]
    confidence = [decided.probs[i, decided.predicted[i]] for i in places]
    assert confidence == sorted((decided.probs[i, decided.predicted[i]] for i in wrong), reverse=True)[:5]
    assert set(places) <= set(wrong)


def test_rows_without_label_or_probability_are_left_out(tmp_path):
    path = tmp_path / "test.csv"
    with path.open("w", newline="") as file:
        rows = [
            ["4", "a", "x", "y", "0.2", "0.8"],
            ["5", "b", "", "y", "0.1", "0.9"],
            ["6", "c", "x", "x", "nan", "nan"],
        ]
        csv.writer(file).writerows([["row", "path", "label", "predicted", "p_x", "p_y"], *rows])
    found = read_decided(path)
    assert found is not None
    assert (found.names, found.rows.tolist(), found.labels.tolist(), found.predicted.tolist()) == (["a"], [4], [0], [1])
    assert read_decided(tmp_path / "val.csv") is None
