from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from tune.evaluate.metrics import confusion_matrix, measure
from tune.evaluate.threshold import decide, find_threshold


def drawn(rows: int, seed: int, ties: int = 0):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=generator) < 0.3).long()
    second = (torch.randn(rows, generator=generator) + labels - 1).sigmoid()
    second = (second * ties).round() / ties if ties else second
    return torch.stack([1 - second, second], dim=1), labels


def score(metric, probs, labels, threshold) -> Fraction:
    """Row by row, in whole numbers."""
    hits = rejected = wrong = missed = 0
    for p, label in zip(probs[:, 1].tolist(), labels.tolist(), strict=True):
        if p > threshold:
            hits, wrong = hits + (label == 1), wrong + (label == 0)
        else:
            missed, rejected = missed + (label == 1), rejected + (label == 0)
    if metric == "accuracy":
        return Fraction(hits + rejected, len(labels))
    if metric == "f1":
        return Fraction(2 * hits, max(1, 2 * hits + wrong + missed))
    shares = [Fraction(right, of) for right, of in ((hits, hits + missed), (rejected, rejected + wrong)) if of]
    return sum(shares, Fraction(0)) / len(shares)


@pytest.mark.parametrize("ties", [0, 6])
@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1"])
def test_no_threshold_of_all_that_there_are_is_better_nor_as_good_and_nearer_to_a_half(metric, ties):
    for seed in range(8):
        probs, labels = drawn(41, seed, ties)
        found = find_threshold(metric, probs, labels)
        values = sorted({0.0, *probs[:, 1].double().tolist(), 1.0})
        middles = [(low + high) / 2 for low, high in pairwise(values)]
        every = {t: score(metric, probs, labels, t) for t in {0.5, *middles}}
        best = max(every.values())
        assert every[found] == best
        assert abs(found - 0.5) == min(abs(t - 0.5) for t, value in every.items() if value == best)
        grid = [score(metric, probs, labels, step / 1000) for step in range(1, 1000)]
        assert best >= max(grid)


def test_where_a_half_is_as_good_as_any_it_is_taken():
    probs, labels = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), torch.tensor([0, 0, 1])
    assert {find_threshold(metric, probs, labels) for metric in ("accuracy", "balanced_accuracy", "f1")} == {0.5}


def test_a_rare_class_gets_a_threshold_below_a_half():
    probs = torch.tensor([[0.9, 0.1]] * 8 + [[0.7, 0.3]] * 2)
    assert find_threshold("f1", probs, torch.tensor([0] * 8 + [1] * 2)) == pytest.approx(0.2)


def test_rows_of_one_class_alone_leave_a_threshold():
    probs, _ = drawn(9, 0)
    for metric in ("accuracy", "balanced_accuracy", "f1"):
        for label in (0, 1):
            labels = torch.full((9,), label)
            found = find_threshold(metric, probs, labels)
            assert 0 < found < 1
            assert score(metric, probs, labels, found) == (0 if metric == "f1" and not label else 1)


def test_a_number_is_taken_as_it_is():
    probs, labels = drawn(9, 0)
    assert find_threshold(0.3, probs, labels) == 0.3
    assert find_threshold(None, probs, labels) is None


def test_a_half_decides_as_the_likeliest_class_does():
    probs, _ = drawn(200, 1, ties=4)
    assert torch.equal(decide(probs, 0.5), decide(probs))


def test_metrics_that_need_a_decision_are_those_of_the_threshold():
    probs, labels = drawn(60, 3)
    plain, moved = measure(probs, labels), measure(probs, labels, 0.2)
    guessed = [[0, 0], [0, 0]]
    for p, label in zip(probs[:, 1].tolist(), labels.tolist(), strict=True):
        guessed[label][p > 0.2] += 1
    assert confusion_matrix(probs, labels, 0.2).tolist() == guessed
    for metric in ("accuracy", "balanced_accuracy", "f1"):
        assert moved[metric] == pytest.approx(float(score(metric, probs, labels, 0.2)))
    assert moved["auroc"] == plain["auroc"]
