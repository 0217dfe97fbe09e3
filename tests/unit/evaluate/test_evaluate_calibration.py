from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassCalibrationError

from tune.evaluate.calibration import doubt, expected_error, is_at_edge, reliability, temperature, tempered


def drawn(rows=4000, classes=3, sharpness=1.0):
    """Labels drawn from probabilities, which are then told sharper than they are."""
    draw = np.random.default_rng(0)
    true = draw.dirichlet(np.ones(classes), rows)
    labels = np.array([draw.choice(classes, p=p) for p in true])
    return labels, tempered(true, 1 / sharpness)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_error_is_that_of_torchmetrics(sharpness):
    labels, probs = drawn(sharpness=sharpness)
    metric = MulticlassCalibrationError(probs.shape[1], n_bins=15, norm="l1")
    theirs = metric(torch.tensor(probs), torch.tensor(labels)).item()
    assert expected_error(labels, probs) == pytest.approx(theirs, abs=1e-5)


def test_probabilities_that_are_meant_have_no_error():
    assert expected_error(*drawn(20000)) < 0.015


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened(sharpness):
    assert temperature(*drawn(20000, sharpness=sharpness)) == pytest.approx(sharpness, rel=0.05)


@pytest.mark.parametrize("sure", [0.6, 0.99, 1 - 1e-9, 1.0])
@pytest.mark.parametrize(("is_right", "edge"), [(True, 0.05), (False, 20.0)])
def test_rows_all_right_or_all_wrong_have_no_best_temperature(sure, is_right, edge):
    labels = np.arange(200) % 2
    probs = np.where(np.eye(2)[labels if is_right else 1 - labels] == 1, sure, 1 - sure)
    found = temperature(labels, probs)
    assert found == edge
    assert is_at_edge(found)
    assert f"T = {edge:g} is the edge of its range" in doubt(found, len(labels))
    labels[:20] = 1 - labels[:20]  # a few of the other kind
    assert is_at_edge(temperature(labels, probs)) == (not is_right)


def test_few_rows_are_doubted_and_many_are_not():
    found = temperature(*drawn(49, sharpness=2.0))
    assert not is_at_edge(found)
    assert doubt(found, 49).startswith("49 validation rows are few")
    assert doubt(found, 50) == ""


def test_a_diagram_counts_every_row_once():
    labels, probs = drawn()
    diagram = reliability(labels, probs, bins=10)
    assert sum(each.count for each in diagram) == len(labels)
    for number, each in enumerate(diagram):
        assert not each.count or number / 10 < each.confidence <= (number + 1) / 10


def test_a_bin_takes_its_upper_edge():
    diagram = reliability(np.array([0, 0]), np.array([[0.6, 0.4], [1.0, 0.0]]), bins=5)
    assert [each.count for each in diagram] == [0, 0, 1, 0, 1]


def test_certainty_is_tempered_without_an_overflow():
    probs = tempered(np.array([[1.0, 0.0], [0.5, 0.5]]), 0.05)
    assert np.isfinite(probs).all()
    assert probs.sum(axis=1) == pytest.approx(1)
