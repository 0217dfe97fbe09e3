from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from folders import facts, make_run, write_predictions
from tune.errors import ConfigError
from tune.report.compare.keys import differing, flat, in_words
from tune.report.compare.pair import compare, read_side

CLASSES = ("cat", "dog")


def side(folder, rows, classes=CLASSES, **more):
    run_dir = make_run(folder, **{**facts(classes=classes, test=len(rows)), **more})
    write_predictions(run_dir, classes, rows)
    return read_side(run_dir)


def drawn(seed, rows=80):
    """Rows of one run: the labels are the same for every seed."""
    labels = np.random.default_rng(7).integers(0, 2, rows)
    p = np.clip(0.5 + 0.25 * (2 * labels - 1) + 0.35 * np.random.default_rng(seed).normal(size=rows), 0.01, 0.99)
    return [
        (f"{row}.png", CLASSES[label], CLASSES[int(each > 0.5)], (1 - each, each))
        for row, (label, each) in enumerate(zip(labels, p, strict=True))
    ]


def test_differences_are_those_of_a_slow_bootstrap_of_the_second_over_the_first(tmp_path):
    first, second = drawn(1), drawn(2)
    pair = compare(side(tmp_path / "a", first), side(tmp_path / "b", second))
    rng, found = np.random.default_rng(3), {"accuracy": [], "auroc": []}
    for _ in range(800):
        chosen = rng.integers(0, len(first), len(first))
        values = {"accuracy": [], "auroc": []}
        for rows in (first, second):
            picked = [rows[place] for place in chosen]
            values["accuracy"].append(sum(label == said for _, label, said, _ in picked) / len(picked))
            labels = [label == "dog" for _, label, _, _ in picked]
            values["auroc"].append(roc_auc_score(labels, [probs[1] for *_, probs in picked]))
        for metric, (before, after) in values.items():
            found[metric].append(after - before)
    for metric, differences in found.items():
        difference, low, high = pair.differences[f"test/{metric}"]
        assert (low, high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=0.025)
        assert low <= difference <= high
    right = [sum(label == said for _, label, said, _ in rows) / len(rows) for rows in (first, second)]
    assert pair.differences["test/accuracy"][0] == pytest.approx(right[1] - right[0])


def test_flips_recalls_and_the_test_count_rows_by_what_was_decided_not_by_the_likelier_class(tmp_path):
    # The first decides for dog from 0.2 on: its column `predicted` says so.
    first = [
        ("1", "cat", "cat", (0.9, 0.1)),
        ("2", "dog", "dog", (0.7, 0.3)),
        ("3", "cat", "dog", (0.6, 0.4)),
        ("4", "dog", "cat", (0.9, 0.1)),
        ("5", "dog", "cat", (0.95, 0.05)),
    ]
    second = [
        ("1", "cat", "dog", (0.2, 0.8)),
        ("2", "dog", "dog", (0.3, 0.7)),
        ("3", "cat", "cat", (0.6, 0.4)),
        ("4", "dog", "dog", (0.4, 0.6)),
        ("5", "dog", "dog", (0.1, 0.9)),
    ]
    pair = compare(side(tmp_path / "a", first), side(tmp_path / "b", second))
    assert [flip.path for flip in pair.gained] == ["5", "3", "4"]  # the surest first; 3 and 4 tie
    assert [(flip.path, flip.label, flip.first, flip.second, flip.p) for flip in pair.lost] == [
        ("1", "cat", "cat", "dog", 0.8)
    ]
    assert pair.other == []
    assert pair.recalls() == {"cat": (2, 0.5, 0.5), "dog": (3, pytest.approx(1 / 3), 1.0)}
    assert (pair.test.only_a, pair.test.only_b) == (1, 3)


def test_rows_that_both_have_wrong_otherwise_are_told_apart(tmp_path):
    classes = ("cat", "dog", "owl")
    rows = [("1", "cat", "dog", (0.1, 0.8, 0.1)), ("2", "owl", "owl", (0, 0, 1))]
    pair = compare(
        side(tmp_path / "a", rows, classes),
        side(tmp_path / "b", [("1", "cat", "owl", (0.1, 0.2, 0.7)), rows[1]], classes),
    )
    assert [(flip.first, flip.second, flip.p) for flip in pair.other] == [("dog", "owl", 0.7)]
    assert pair.gained == pair.lost == []


@pytest.mark.parametrize(
    ("more", "rows", "reason"),
    [
        (facts(fingerprint="f2"), drawn(1), r"read other data \(fingerprint f2, not f1\)"),
        (facts(split="s2"), drawn(1)[:-1], r"another split \(s2, not s1; 4 and 80 test rows\): 1 rows stand in one"),
        (facts(classes=("cat", "owl")), drawn(1), "has the classes cat, owl, not cat, dog"),
        ({**facts(), "status": "failed", "cause": "no memory"}, drawn(1), r"is failed \(no memory\)"),
    ],
)
def test_runs_that_were_not_measured_on_the_same_rows_are_refused_with_the_reason(tmp_path, more, rows, reason):
    first = side(tmp_path / "a", drawn(1))
    with pytest.raises(ConfigError, match=reason):
        compare(first, side(tmp_path / "b", rows, **more))


def test_other_training_rows_beside_the_same_test_rows_are_refused_unless_asked_for(tmp_path):
    first = side(tmp_path / "a", drawn(1))
    second = side(tmp_path / "b", drawn(2), data=facts(split="s2")["data"], counts={"train": 5, "val": 4, "test": 80})
    with pytest.raises(
        ConfigError, match=r"split: other training rows \(5 and 10\), the same test rows; --other-split"
    ):
        compare(first, second)
    same = compare(first, side(tmp_path / "c", drawn(2)))
    assert compare(first, second, other_split=True).differences == same.differences


def test_other_test_rows_are_refused_though_another_split_is_allowed(tmp_path):
    first, second = side(tmp_path / "a", drawn(1)), side(tmp_path / "b", drawn(1)[:-1], **facts(split="s2"))
    with pytest.raises(ConfigError, match="1 rows stand in one"):
        compare(first, second, other_split=True)


def test_other_names_under_the_same_count_are_another_split(tmp_path):
    first, rows = side(tmp_path / "a", drawn(1)), drawn(2)
    with pytest.raises(ConfigError, match=r"another split .* 2 rows stand in one of"):
        compare(first, side(tmp_path / "b", [("new.png", *rows[0][1:]), *rows[1:]]))


def test_a_run_without_a_test_part_is_compared_on_validation_rows_and_not_with_one_that_has_it(tmp_path):
    sides = []
    for name in ("a", "b"):
        run_dir = make_run(tmp_path / name, **facts())
        write_predictions(run_dir, CLASSES, drawn(1), part="val")
        sides.append(read_side(run_dir))
    assert list(compare(*sides).differences) == ["val/accuracy", "val/auroc"]
    with pytest.raises(ConfigError, match="was judged by test rows, not by val rows"):
        compare(sides[0], side(tmp_path / "c", drawn(1)))


def test_keys_that_differ_are_found_however_deep_and_on_either_side():
    first = {"lr": 0.1, "data": {"root": "x", "split": {"val": 0.2}}, "logger": {}, "cut": [1, 2]}
    second = {"lr": 0.1, "data": {"root": "x", "split": {"val": 0.3, "seed": 1}}, "logger": {}, "cut": [1]}
    found = differing(flat(first), flat(second))
    assert found == {"data.split.val": (0.2, 0.3), "cut": ([1, 2], [1]), "data.split.seed": ("–", 1)}
    assert json.loads(json.dumps(found))["cut"] == [[1, 2], [1]]


def test_of_a_group_with_another_option_only_typed_keys_are_told():
    keys = {"freeze.cut": (0.3, "–"), "freeze.norm": ("eval", "train"), "lr": (0.1, 0.2)}
    told = in_words(keys, {"freeze": ("mid", "full")}, ["freeze.norm", "lr"])
    assert told == ["freeze mid → full", "freeze.norm eval → train", "lr 0.1 → 0.2"]
