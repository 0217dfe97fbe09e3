import math

import pytest
import torch
from torch.testing import assert_close

from tune.evaluate.metrics import infomax
from tune.transfer.source_free import information, pseudo_labels


def slow_information(logits) -> float:
    rows = [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in logits.tolist()]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    entropy = sum(-sum(p * math.log(p) for p in row) for row in rows) / len(rows)
    return entropy + sum(p * math.log(p) for p in mean)


def test_information_is_its_formula_in_loops_and_infomax_its_opposite():
    logits = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    assert float(information(logits)) == pytest.approx(slow_information(logits), abs=1e-12)
    assert infomax(logits.softmax(dim=1)) == pytest.approx(-slow_information(logits), abs=1e-12)


def test_information_has_its_limits():
    sure = torch.eye(4) * 100
    assert float(information(sure)) == pytest.approx(-math.log(4), abs=1e-5)
    assert float(information(torch.zeros(5, 4))) == pytest.approx(0, abs=1e-6)
    assert float(information(sure[[0, 0, 0]])) == pytest.approx(0, abs=1e-5)
    assert infomax(torch.eye(3)) == pytest.approx(math.log(3))


def test_pseudo_labels_follow_the_clusters_and_not_single_mistakes():
    draw = torch.Generator().manual_seed(0)
    centres = torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 0, 5]])
    truth = torch.arange(60) % 3
    features = centres[truth] + torch.randn(60, 3, generator=draw)
    probs = torch.nn.functional.one_hot(truth, 3) * 0.7 + 0.1
    probs[:6] = probs[:6].roll(1, dims=1)  # six rows are decided wrongly
    assert_close(pseudo_labels(features, probs), truth)


def test_a_class_that_no_row_has_gets_no_row():
    features = torch.eye(4).repeat(3, 1)
    probs = torch.zeros(12, 5)
    probs[torch.arange(12), torch.arange(12) % 4] = 1
    labels = pseudo_labels(features, probs)
    assert labels.max() == 3
    assert_close(labels, torch.arange(12) % 4)
