from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from scipy.optimize import minimize

from tune.report.labels import look_for_flips
from tune.report.scale import Scale, entropy, scale_of
from tune.report.story import Predicted, Story, read_story
from tune.run_dir import write_json, write_yaml

TRAIN, VAL = [70, 20, 10], [30, 12, 8]
PARTS = {
    "cross_entropy": "CrossEntropy",
    "weighted": "Weighted",
    "logit_adjustment": "LogitAdjustment",
    "focal": "Focal",
    "triplet": "Triplet",
}


def story(loss="cross_entropy", *, transfer="fine_tune.FineTune", regularize=None, data=None, head=None, **loss_keys):
    config = {
        "loss": {"_target_": f"tune.losses.{loss}.{PARTS[loss]}", **loss_keys},
        "transfer": {"_target_": f"tune.transfer.{transfer}"},
        "regularize": regularize or {},
        "data": data or {},
        "head": head or {"_target_": "tune.models.heads.linear.LinearHead"},
    }
    return Story({"prevalence": {"train": TRAIN, "val": VAL}}, config, [], Predicted())


def least_constant(counts, row_loss):
    """The smallest mean loss of a network that says the same of every row, found by search."""
    shares = np.array(counts) / sum(counts)

    def mean_loss(logits):
        log_q = logits - np.log(np.exp(logits).sum())
        return sum(share * row_loss(label, log_q) for label, share in enumerate(shares))

    return minimize(mean_loss, np.log(shares), tol=1e-12).fun


def test_chance_is_the_least_that_a_constant_answer_costs():
    found = scale_of(story())
    assert found.train == pytest.approx(least_constant(TRAIN, lambda label, log_q: -log_q[label]), abs=1e-6)
    assert found.val == pytest.approx(least_constant(VAL, lambda label, log_q: -log_q[label]), abs=1e-6)
    assert found.least == 0


def test_chance_with_label_smoothing_and_what_perfect_knowledge_costs():
    s = 0.1

    def smoothed(label, log_q):
        return -sum((s / 3 + (1 - s) * (label == k)) * log_q[k] for k in range(3))

    found = scale_of(story(regularize={"label_smoothing": s}))
    assert found.train == pytest.approx(least_constant(TRAIN, smoothed), abs=1e-6)
    best = np.log([s / 3 + (1 - s) * (k == 0) for k in range(3)])
    assert found.least == pytest.approx(smoothed(0, best), abs=1e-9)
    assert found.val == scale_of(story()).val  # validation labels are whole
    assert found.learned(found.least) == pytest.approx(1)
    assert found.learned(found.train) == pytest.approx(0)


@pytest.mark.parametrize("classes", ["inverse", [1.0, 2.0, 5.0]])
def test_chance_of_a_weighted_loss(classes):
    weights = [sum(TRAIN) / (3 * n) for n in TRAIN] if classes == "inverse" else classes
    found = scale_of(story("weighted", classes=classes))
    for counts, ours in ((TRAIN, found.train), (VAL, found.val)):
        assert ours == pytest.approx(least_constant(counts, lambda k, log_q: -weights[k] * log_q[k]), abs=1e-6)


def test_chance_of_the_focal_loss_is_near_the_least_and_scaled_by_its_gamma():
    for gamma in (1.0, 2.0):
        found = scale_of(story("focal", gamma=gamma)).train
        least = least_constant(TRAIN, lambda k, log_q, g=gamma: -((1 - math.exp(log_q[k])) ** g) * log_q[k])
        assert least <= found < 1.3 * least


def test_a_balanced_sampler_shows_all_classes_equally_often():
    assert scale_of(story(data={"sampler": "balanced"})).train == pytest.approx(math.log(3))


def test_a_student_shows_a_share_of_its_loss():
    found = scale_of(story(transfer="distill.Distill", regularize={}))
    assert found.factor == 0.5
    assert found.learned(0.5 * found.train) == pytest.approx(0)


def test_losses_without_a_known_scale_have_none():
    assert scale_of(story("triplet")) is None
    assert scale_of(story(transfer="reweight.Reweight")) is None
    multi = {"_target_": "tune.models.heads.multi_task.MultiTaskHead", "weights": "uncertainty"}
    assert scale_of(story(head=multi)) is None


def test_entropy_of_equal_shares_is_the_log_of_their_number():
    assert entropy([0.25] * 4) == pytest.approx(math.log(4))
    assert Scale(math.log(4), math.log(4)).told(0.0) == 1


def drawn(n, classes, signal, flips, sure=1.0, seed=0):
    """Rows of a calibrated network; `flips` of the labels are wrong; with `sure` above 1 it is too sure."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, signal, (n, classes))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([draw.choice(classes, p=p) for p in probs])
    wrong = draw.random(n) < flips
    labels[wrong] = (labels[wrong] + draw.integers(1, classes, wrong.sum())) % classes
    said = np.exp(sure * logits) / np.exp(sure * logits).sum(axis=1, keepdims=True)
    return Predicted([f"row {i}" for i in range(n)], labels.tolist(), said.round(6).tolist()), wrong


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("seed", [0, 1])
def test_flipped_labels_are_found_counted_and_named(classes, seed):
    val, wrong = drawn(600, classes, 6.0, 0.12, seed=seed)
    found = look_for_flips(val)
    assert found.errors > 4
    assert found.share == pytest.approx(0.12, abs=0.04)
    assert all(wrong[int(name.removeprefix("row "))] for name in found.names)
    assert len(found.names) == 5


@pytest.mark.parametrize("sure", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("signal", [1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_network_that_is_too_sure_or_not_sure_enough_is_no_sign_of_wrong_labels(classes, signal, sure):
    for seed in range(3):
        val, _ = drawn(300, classes, signal, 0.0, sure, seed)
        assert look_for_flips(val).errors < 3


def test_a_folder_is_read_with_gaps_and_rows_without_a_label(tmp_path):
    write_json(tmp_path / "run.json", {"classes": ["a", "b"], "prevalence": {"train": [3, 1], "val": [1, 1]}})
    write_yaml(tmp_path / "config.yaml", {"objective": "val/f1", "regularize": {"l1": 0.5}})
    (tmp_path / "metrics.csv").write_text("epoch,val/loss,val/x\n1,0.5,\n2,nan,3\n")
    (tmp_path / "predictions").mkdir()
    with (tmp_path / "predictions" / "val.csv").open("w") as file:
        csv.writer(file).writerows(
            [
                ["row", "path", "label", "predicted", "p_a", "p_b"],
                [0, "x", "b", "a", 0.75, 0.25],
                [1, "y", "", "a", 1, 0],
            ]
        )
    read = read_story(tmp_path)
    assert read.curve("val/x") == []
    assert read.curve("val/loss")[0] == 0.5
    assert read.val == Predicted(["x"], [1], [[0.75, 0.25]])
    assert read.val.row_losses() == [-math.log(0.25)]
    assert read.shares("train") == [0.75, 0.25]
    assert (read.value("regularize.l1"), read.value("regularize.dropout"), read.value("regularize.nothing")) == (
        0.5,
        0,
        None,
    )
