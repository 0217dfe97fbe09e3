"""The rule of thumb, case by case: little or close, deep; more, mid; much or distant, full."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tune.train.choose.look import sample
from tune.train.choose.rule import Evidence, Tap, decide, summary


def evidence(per_class, knn=0.5, below=(), classes=4, looked=400):
    """`below` holds (errors, LogME above the output's) of each layer under the output."""
    taps = [Tap(f"layer{i}", 8, -0.3 + gain, 0.5, 0.6, errors) for i, (errors, gain) in enumerate(below)]
    return Evidence(per_class * classes, classes, looked, (*taps, Tap("output", 16, -0.3, knn, 0.6)))


NEITHER = {"knn": 0.5, "below": [(1.0, 0.0), (-3.0, -0.2)]}
CLOSE = {"knn": 0.9, "below": [(1.0, 0.0)]}
BETTER_PROBE = {"knn": 0.9, "below": [(2.5, -0.1)]}
BETTER_EVIDENCE = {"knn": 0.9, "below": [(0.0, 0.02)]}
CHANCE = {"knn": 0.26}


@pytest.mark.parametrize(
    ("per_class", "features", "option"),
    [
        (10, NEITHER, "deep"),
        (10, CLOSE, "deep"),
        (10, BETTER_PROBE, "deep"),
        (49, CHANCE, "deep"),
        (50, NEITHER, "mid"),
        (999, NEITHER, "mid"),
        (1000, NEITHER, "full"),
        (200, CLOSE, "deep"),
        (5000, CLOSE, "deep"),
        (200, BETTER_PROBE, "full"),
        (200, BETTER_EVIDENCE, "full"),
        (200, CHANCE, "full"),
        (5000, BETTER_PROBE, "full"),
    ],
)
def test_the_rule(per_class, features, option):
    assert decide(evidence(per_class, **features))[0] == option


@pytest.mark.parametrize(
    ("per_class", "features", "words"),
    [
        (10, BETTER_PROBE, ["little data", "disagrees", "layer0 tells more"]),
        (10, NEITHER, ["10 training rows a class"]),
        (200, CLOSE, ["close", "disagrees", "mid"]),
        (5000, CLOSE, ["close", "disagrees", "full"]),
        (200, BETTER_PROBE, ["distant", "layer0", "alone", "mid"]),
        (5000, NEITHER, ["much data", "neither close nor distant"]),
    ],
)
def test_the_reason_says_what_speaks_for_it_and_against(per_class, features, words):
    _, reason = decide(evidence(per_class, **features))
    assert all(word in reason for word in words), reason


@pytest.mark.parametrize(("per_class", "features"), [(10, NEITHER), (200, NEITHER), (5000, BETTER_PROBE)])
def test_where_the_evidence_agrees_nothing_is_said_against(per_class, features):
    assert "disagree" not in decide(evidence(per_class, **features))[1]


def test_agreement_is_counted_from_chance():
    assert evidence(50, knn=0.25).agreement == pytest.approx(0.0)
    assert evidence(50, knn=1.0).agreement == pytest.approx(1.0)


def test_few_looked_at_rows_carry_little_evidence():
    gain = {"knn": 0.5, "below": [(0.0, 0.02)]}
    assert decide(evidence(200, **gain, looked=400))[0] == "full"  # 8 nats
    assert decide(evidence(200, **gain, looked=100))[0] == "mid"  # 2 nats


def test_without_taps_the_number_of_rows_decides_and_the_reason_says_so():
    known = {per_class: Evidence(2 * per_class, 2, untapped="not seen: why") for per_class in (10, 200, 2000)}
    assert [decide(each)[0] for each in known.values()] == ["deep", "mid", "full"]
    assert "not seen: why" in summary(known[200])


def test_the_summary_holds_the_numbers():
    text = summary(evidence(200, **BETTER_PROBE))
    assert all(number in text for number in ("800 training rows", "4 classes", "0.900", "0.250", "0.600", "-0.300"))


def test_the_rule_needs_no_torch():
    code = "import sys, tune.train.choose.rule; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sample_keeps_shares_and_rare_classes_and_follows_its_seed():
    labels = np.array([0] * 900 + [1] * 95 + [2] * 5)
    rows = np.arange(0, 1000)
    picked = sample(labels, rows, 100, seed=0)
    assert np.bincount(labels[picked]).tolist() == [90, 10, 1]
    assert np.all(np.diff(picked) > 0)
    np.testing.assert_array_equal(picked, sample(labels, rows, 100, seed=0))
    assert not np.array_equal(picked, sample(labels, rows, 100, seed=1))
    np.testing.assert_array_equal(sample(labels, rows, 1000, seed=0), rows)
