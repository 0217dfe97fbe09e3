"""Folds and bootstrap draws: every row validates once; a draw has the shares that chance gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tune.data.samplers import resampled
from tune.data.splits import Split, check, split_rows
from tune.data.table import Table


def table_of(rows: int = 103, groups: int = 0) -> Table:
    labels = np.random.default_rng(0).integers(0, 3, rows)
    return Table(
        names=[f"row {i}" for i in range(rows)],
        labels=labels,
        classes=["a", "b", "c"],
        images=np.zeros((rows, 1, 1), np.uint8),
        group=np.arange(rows) // 4 if groups else None,
    )


@pytest.mark.parametrize("groups", [0, 1])
def test_every_row_outside_of_test_validates_in_one_fold(groups):
    table = table_of(groups=groups)
    parts = [split_rows(table, Split(folds=4, fold=fold, seed=3)) for fold in range(4)]
    assert len({tuple(each.test) for each in parts}) == 1
    seen = Counter(row for each in parts for row in each.val.tolist())
    assert set(seen.values()) == {1}
    assert sorted(seen) == sorted(set(range(103)) - set(parts[0].test.tolist()))
    for each in parts:
        assert sorted([*each.train, *each.val, *each.test]) == list(range(103))
        if groups:
            assert table.group is not None
            assert not set(table.group[each.train]) & set(table.group[each.val])
        else:
            assert abs(len(each.val) - len(seen) / 4) < 3
            shares = [np.bincount(table.labels[rows], minlength=3) / len(rows) for rows in (each.val, each.train)]
            assert np.abs(shares[0] - shares[1]).max() < 0.06
    assert len({each.fingerprint for each in parts}) == 4
    assert parts[1].how.endswith("fold 1 of 4 validates" + (", grouped by group" if groups else ""))


@pytest.mark.parametrize(
    ("split", "key", "said"),
    [
        (Split(fold=1), "data.split.fold", "has no effect without data.split.folds"),
        (Split(folds=3), "data.split.fold", "say which of the 3 folds validates"),
        (Split(folds=3, fold=3), "data.split.fold", "the 3 folds are numbered from 0"),
        (Split(folds=3, fold=0, val=0.3), "data.split.val", "has no effect beside data.split.folds"),
        (Split(folds=60, fold=0), "data.split.val", "too few"),
    ],
)
def test_a_fold_that_cannot_be_is_refused(split, key, said):
    (problem,) = check(table_of(), split)
    assert problem.key == key
    assert said in problem.text


def test_given_validation_rows_cannot_be_folded():
    table = replace(table_of(), split=np.array(["val"] * 20 + [""] * 83))
    assert any("nothing to fold" in problem.text for problem in check(table, Split(folds=3, fold=0)))


def test_a_bootstrap_draws_as_many_rows_with_replacement():
    rows = np.arange(1000, 11000)
    first, again, other = resampled(rows, 5, 0), resampled(rows, 5, 0), resampled(rows, 5, 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(first) == len(rows)
    assert set(first) <= set(rows)
    assert len(set(first)) / len(rows) == pytest.approx(1 - np.exp(-1), abs=0.01)
    counts = np.bincount(np.bincount(first - 1000, minlength=10000), minlength=4)[:4] / len(rows)
    assert counts == pytest.approx([np.exp(-1) / f for f in (1, 1, 2, 6)], abs=0.015)
