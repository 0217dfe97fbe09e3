from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from tune.evaluate import intervals
from tune.evaluate.metrics import confusion_matrix, measure, measure_intervals, measure_many


def predictions(rows: int, classes: int, skill: float = 1.0):
    generator = torch.Generator().manual_seed(rows + classes)
    labels = torch.randint(classes, (rows,), generator=generator)
    logits = torch.randn(rows, classes, generator=generator) + skill * torch.eye(classes)[labels]
    return logits.softmax(dim=1), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_agree_with_scikit_learn(classes):
    probs, labels = predictions(300, classes)
    guess, y = probs.argmax(dim=1).numpy(), labels.numpy()
    found = measure(probs, labels)
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(y, guess))
    assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(y, guess))
    assert found["f1_macro"] == pytest.approx(oracle.f1_score(y, guess, average="macro"))
    scores = probs[:, 1].numpy() if classes == 2 else probs.double().numpy()
    scores = scores if classes == 2 else scores / scores.sum(axis=1, keepdims=True)
    assert found["auroc"] == pytest.approx(oracle.roc_auc_score(y, scores, multi_class="ovr"), abs=1e-6)
    assert ("f1" in found) == (classes == 2)
    if classes == 2:
        assert found["f1"] == pytest.approx(oracle.f1_score(y, guess))
    assert (confusion_matrix(probs, labels).numpy() == oracle.confusion_matrix(y, guess)).all()


def test_one_class_alone_has_no_auroc():
    found = measure(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
    assert "auroc" not in found
    assert found["balanced_accuracy"] == pytest.approx(0.5)


def test_wilson_matches_the_published_example():
    # Newcombe 1998, table 1: 81 of 263 gives 0.2553 to 0.3662.
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_bootstrap_of_the_confusion_matrix_matches_drawing_rows():
    probs, labels = predictions(200, 2)
    guess, y = probs.argmax(dim=1).numpy(), labels.numpy()
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        rows = rng.integers(0, 200, 200)
        drawn.append(oracle.f1_score(y[rows], guess[rows]))
    low, high = intervals.of_confusion(confusion_matrix(probs, labels).numpy())["f1"]
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.015)


def test_bootstrap_of_auroc_matches_drawing_rows():
    probs, labels = predictions(150, 2)
    probs = (probs * 8).round() / 8  # many ties
    y, scores = labels.numpy(), probs[:, 1].numpy()
    rng = np.random.default_rng(1)
    draws = [rng.integers(0, 150, 150) for _ in range(2000)]
    drawn = [oracle.roc_auc_score(y[rows], scores[rows]) for rows in draws]
    low, high = intervals.of_auroc(probs.double().numpy(), y)
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=0.015)


def test_every_interval_holds_its_metric():
    for classes in (2, 3):
        probs, labels = predictions(250, classes)
        between, values = measure_intervals(probs, labels), measure(probs, labels)
        assert between.keys() == values.keys()
        for name, (low, high) in between.items():
            assert 0 <= low < values[name] < high <= 1


@pytest.mark.parametrize("classes", [2, 3])
def test_rows_that_are_all_right_give_an_interval_of_accuracy_alone(classes):
    labels = torch.arange(8) % classes
    probs = torch.nn.functional.one_hot(labels, classes) * 0.5 + 0.5 / classes
    low, high = measure_intervals(probs, labels).pop("accuracy")
    assert (low, high) == pytest.approx((8 / (8 + intervals.Z**2), 1))  # Wilson's, of 8 of 8
    assert measure_intervals(probs, labels).keys() == {"accuracy"}
    labels[0] = 1
    between = measure_intervals(probs, labels)
    assert between.keys() == measure(probs, labels).keys()
    assert all(low < high for low, high in between.values())


@pytest.mark.parametrize(("classes", "absent"), [(2, None), (4, None), (4, 2), (2, 1)])
def test_many_sets_of_predictions_at_once_are_each_as_alone(classes, absent):
    many = torch.stack([predictions(120, classes, skill)[0] for skill in (0.0, 1.0, 3.0)])
    many = (many * 20).round() / 20  # ties
    _, labels = predictions(120, classes)
    if absent is not None:
        labels = torch.where(labels == absent, 0, labels)
    found = measure_many(many, labels)
    for number, probs in enumerate(many):
        alone = measure(probs, labels)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            assert float(found[name][number]) == pytest.approx(value, abs=1e-6), name
