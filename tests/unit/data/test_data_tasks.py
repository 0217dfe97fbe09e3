from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tune.data.splits import Split, split_rows
from tune.data.table import Table
from tune.data.tasks.columns import standardised, unlearnable, with_tasks
from tune.data.tasks.task import TaskOptions
from tune.errors import DataError

NAN = math.nan


def table(split=None, **columns) -> Table:
    rows = len(next(iter(columns.values())))
    return Table(
        names=[f"row {i}" for i in range(rows)],
        labels=np.arange(rows) % 2,
        classes=["a", "b"],
        images=np.zeros((rows, 4, 4), dtype=np.uint8),
        split=None if split is None else np.array(split),
        columns={name: np.array(values) for name, values in columns.items()},
    )


def read(kind, values, **options):
    return with_tasks(table(own=values), {"own": TaskOptions(kind, **options)}).tasks["own"]


@pytest.mark.parametrize(
    ("values", "classes", "numbers"),
    [
        (["poly", "mono", "", "poly", "nan"], ["mono", "poly"], [1, 0, NAN, 1, NAN]),
        ([10, 2, 2, 10], ["2", "10"], [1, 0, 0, 1]),
        ([0.5, NAN, 0.0, 0.5], ["0", "0.5"], [1, NAN, 0, 1]),
    ],
    ids=["texts", "whole numbers", "fractions"],
)
def test_classes_are_sorted_and_missing_ones_are_nan(values, classes, numbers):
    labels = read("classification", values)
    assert labels.task.classes == classes
    np.testing.assert_array_equal(labels.values, numbers)
    np.testing.assert_array_equal(labels.is_given, [number == number for number in numbers])


def test_several_labels_stand_between_bars_and_a_bar_alone_is_none_of_them():
    labels = read("multi_label", ["crack|finger", " finger ", "|", "", "crack | crack"])
    assert labels.task.classes == ["crack", "finger"]
    np.testing.assert_array_equal(labels.values, [[1, 1], [0, 1], [0, 0], [NAN, NAN], [1, 0]])
    assert labels.counts(np.array([0, 1, 2, 3])).tolist() == [1, 2]


@pytest.mark.parametrize("values", [["1.5", "", "-2e3", "NaN"], [1.5, NAN, -2000.0, NAN]], ids=["texts", "floats"])
def test_numbers_are_numbers_and_what_is_missing_is_nan(values):
    np.testing.assert_array_equal(read("regression", values).values, [1.5, NAN, -2000, NAN])


def test_a_task_may_have_another_name_than_its_column():
    with_it = with_tasks(table(p=[0.0, 1.0]), {"defect": TaskOptions("regression", column="p", weight=2.0)})
    assert with_it.tasks["defect"].values.tolist() == [0, 1]
    assert with_it.tasks["defect"].task.weight == 2


def test_rows_that_are_taken_keep_what_they_have():
    taken = with_tasks(table(own=["x", "y", "", "x"]), {"own": TaskOptions("classification")}).take(np.array([3, 1]))
    assert taken.tasks["own"].values.tolist() == [0, 1]
    assert taken.tasks["own"].task.classes == ["x", "y"]


def test_aims_of_a_regression_have_mean_0_and_sd_1_over_the_training_rows_with_a_number():
    values = np.random.default_rng(0).normal(1e6, 3.0, 40)
    values[::5] = NAN
    train = np.arange(25)
    labels = standardised(with_tasks(table(own=values), {"own": TaskOptions("regression")}), train).tasks["own"]
    aims = labels.aims[train]
    assert np.nanmean(aims) == pytest.approx(0, abs=1e-5)
    assert np.nanstd(aims) == pytest.approx(1, abs=1e-5)
    back = labels.aims[25:].astype(float) * labels.task.scale + labels.task.centre
    np.testing.assert_allclose(back, values[25:], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "values", "says"),
    [
        ("own", "classification", ["x", "x", "", "x"], "say x; two classes are needed"),
        ("own", "classification", ["", "", "", ""], "no row has a label in own"),
        ("own", "multi_label", ["|", "", "|", "|"], "no row has a label in own"),
        ("own", "regression", ["", "", "", ""], "no row has a number in own"),
        ("own", "regression", ["1", "2", "three", "inf"], "2 values of own are no finite numbers (first: 'three' of r"),
        ("other", "regression", [1.0, 2.0, 3.0, 4.0], "there is no column other. It has: own"),
        ("a/b", "regression", [1.0, 2.0, 3.0, 4.0], "is no name for a task"),
    ],
)
def test_a_column_that_teaches_nothing_is_refused(name, kind, values, says):
    with pytest.raises(DataError, match=re.escape(says)) as told:
        with_tasks(table(own=values), {name: TaskOptions(kind)})
    assert told.value.problems[0].key.startswith(f"data.tasks.{name}")


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("classification", ["x", "y", "x", "y", "", ""], "no row of val has a label"),
        ("classification", ["", "", "", "", "x", "y"], "no row of train has a label"),
        ("classification", ["x", "x", "x", "x", "x", "y"], "no row of train has y"),
        ("multi_label", ["x", "|", "", "x", "x", "x|y"], "no row of train has y"),
        ("regression", [3.0, 3.0, NAN, 3.0, 1.0, 2.0], "all training rows have the same value, 3"),
    ],
)
def test_a_split_that_leaves_nothing_to_learn_or_to_validate_is_refused(kind, values, says):
    given = with_tasks(table(["train"] * 4 + ["val"] * 2, own=values), {"own": TaskOptions(kind)})
    with pytest.raises(DataError, match=re.escape(says)):
        split_rows(given, Split(test=0))


def test_a_test_part_needs_no_labels_of_a_task():
    given = with_tasks(table(own=["x", "y", "x", "y", "", ""]), {"own": TaskOptions("classification")})
    assert unlearnable(given, {"train": np.array([0, 1]), "val": np.array([2]), "test": np.array([4, 5])}) == []
