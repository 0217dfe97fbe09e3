from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tune.errors import DataError
from tune.evaluate.paired import join, paired


def two_runs(rows: int, classes: int, skill_a: float, skill_b: float, shared: float = 1.0):
    """Labels and the probabilities of two runs that find the same rows hard."""
    rng = np.random.default_rng(rows + classes)
    labels = rng.integers(0, classes, rows)
    hard = shared * rng.normal(size=(rows, classes))
    each = []
    for skill in (skill_a, skill_b):
        logits = hard + 0.5 * rng.normal(size=(rows, classes)) + skill * np.eye(classes)[labels]
        each.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return labels, *each


def measured(labels, probs, metric) -> float:
    if metric == "accuracy":
        return float(np.mean([row.argmax() == label for row, label in zip(probs, labels, strict=True)]))
    if probs.shape[1] == 2:
        return float(roc_auc_score(labels, probs[:, 1]))
    each = [roc_auc_score(labels == k, probs[:, k]) for k in range(probs.shape[1])]
    return float(np.mean(each))


@pytest.mark.parametrize("metric", ["accuracy", "auroc"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_interval_is_that_of_drawing_rows_one_by_one(metric, classes):
    labels, a, b = two_runs(90, classes, 1.5, 0.5)
    rng, differences = np.random.default_rng(5), []
    for _ in range(600):
        rows = rng.integers(0, 90, 90)
        differences.append(measured(labels[rows], a[rows], metric) - measured(labels[rows], b[rows], metric))
    difference, low, high = paired(labels, a, b, metric)
    assert difference == pytest.approx(measured(labels, a, metric) - measured(labels, b, metric))
    assert (low, high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=0.025)


def test_the_interval_of_accuracy_is_the_binomials_in_a_known_case():
    # 400 rows, b always right and a wrong in 100: the difference is the mean of 0 and -1, so its sd is that of a share.
    labels = np.zeros(400, dtype=np.int64)
    right, wrong = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    b = np.tile(right, (400, 1))
    a = np.where(np.arange(400)[:, None] < 100, wrong, right)
    difference, low, high = paired(labels, a, b, "accuracy")
    assert difference == -0.25
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert (low, high) == pytest.approx((-0.25 - half, -0.25 + half), abs=0.01)


@pytest.mark.parametrize("metric", ["accuracy", "auroc"])
def test_equal_runs_do_not_differ_and_the_other_way_round_is_the_negative(metric):
    labels, a, b = two_runs(80, 2, 1.0, 0.3)
    assert paired(labels, a, a, metric) == (0, 0, 0)
    difference, low, high = paired(labels, a, b, metric, seed=3)
    assert paired(labels, b, a, metric, seed=3) == pytest.approx((-difference, -high, -low))
    assert paired(labels, a, b, metric, seed=3) == (difference, low, high)


def test_rows_that_are_hard_for_both_do_not_blur_the_difference():
    labels, a, b = two_runs(300, 2, 0.8, 0.5, shared=3.0)
    _, low, high = paired(labels, a, b, "auroc")
    shuffled = np.random.default_rng(0).permutation(300)
    order = np.concatenate([shuffled[labels[shuffled] == k] for k in (0, 1)])
    by_label = np.concatenate([np.flatnonzero(labels == k) for k in (0, 1)])
    other = b.copy()
    other[by_label] = b[order]  # the same area, of rows that are no pairs
    _, low_other, high_other = paired(labels, a, other, "auroc")
    assert high - low < 0.7 * (high_other - low_other)


def test_rows_of_one_class_have_no_area():
    labels = np.zeros(5, dtype=np.int64)
    probs = np.tile([0.6, 0.4], (5, 1))
    assert np.isnan(paired(labels, probs, probs, "auroc")).all()


HEAD = "row,path,label,predicted,p_cat,p_dog\n"
FIRST = HEAD + "0,a.png,cat,cat,0.9,0.1\n3,b.png,dog,cat,0.7,0.3\n5,c.png,dog,dog,0.2,0.8\n"


def test_files_are_joined_by_path(tmp_path):
    (tmp_path / "a.csv").write_text(FIRST)
    (tmp_path / "b.csv").write_text(
        HEAD + "1,c.png,dog,cat,0.6,0.4\n2,a.png,cat,cat,0.8,0.2\n9,b.png,dog,dog,0.1,0.9\n"
    )
    joined = join(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (joined.classes, joined.paths) == (["cat", "dog"], ["a.png", "b.png", "c.png"])
    assert joined.labels.tolist() == [0, 1, 1]
    assert joined.probs_a[:, 1].tolist() == [0.1, 0.3, 0.8]
    assert joined.probs_b[:, 1].tolist() == [0.2, 0.9, 0.4]
    assert joined.difference("accuracy")[0] == 0


def test_accuracy_of_files_is_that_of_what_was_decided_for(tmp_path):
    (tmp_path / "a.csv").write_text(FIRST.replace("b.png,dog,cat", "b.png,dog,dog"))  # by a threshold of 0.25
    (tmp_path / "b.csv").write_text(FIRST)
    joined = join(tmp_path / "a.csv", tmp_path / "b.csv")
    assert joined.difference("accuracy")[0] == pytest.approx(1 / 3)
    assert joined.difference("auroc")[0] == 0


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (FIRST.replace("b.png", "z.png"), "2 rows stand in one of"),
        (FIRST.replace("5,c.png,dog,dog,0.2,0.8\n", ""), "1 rows stand in one of"),
        (FIRST.replace("a.png,cat", "a.png,dog"), "another label than in .*a.png"),
        (FIRST.replace("p_dog", "p_cow").replace("dog", "cow"), "has the classes cat, cow"),
        (FIRST.replace("b.png", "a.png"), "holds a.png twice"),
        (FIRST.replace("b.png,dog", "b.png,cow"), "a class without a column"),
        ("x,y\n1,2\n", "no file of predictions"),
        ("", "no file of predictions"),
    ],
)
def test_files_of_other_rows_are_refused(tmp_path, other, why):
    (tmp_path / "a.csv").write_text(FIRST)
    (tmp_path / "b.csv").write_text(other)
    with pytest.raises(DataError, match=why):
        join(tmp_path / "a.csv", tmp_path / "b.csv")


def test_rows_without_a_label_are_left_out_and_nothing_else_is_refused(tmp_path):
    lines = FIRST.splitlines(keepends=True)
    (tmp_path / "a.csv").write_text(FIRST + "7,d.png,,cat,0.9,0.1\n")
    (tmp_path / "b.csv").write_text(FIRST)
    assert join(tmp_path / "a.csv", tmp_path / "b.csv").paths == ["a.png", "b.png", "c.png"]
    (tmp_path / "b.csv").write_text("".join([lines[0], "7,d.png,,cat,0.9,0.1\n"]))
    with pytest.raises(DataError, match="has no row with a label"):
        join(tmp_path / "b.csv", tmp_path / "a.csv")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        join(tmp_path / "a.csv", tmp_path / "b.csv")
