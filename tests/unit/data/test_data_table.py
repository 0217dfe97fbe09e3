from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tune.data.table import Table, order_classes


def table() -> Table:
    return Table(
        names=["a", "b", "c"],
        labels=np.array([0, 1, 1]),
        classes=["no", "yes"],
        images=np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"names": ["a", "bc", ""]},
        {"labels": np.array([1, 0, 1])},
        {"classes": ["no", "yes!"]},
        {"images": np.zeros((3, 2, 2), np.uint8)},
        {"images": np.arange(12, dtype=np.uint8).reshape(3, 4, 1)},
        {"split": np.array(["", "", "test"])},
        {"group": np.array([1, 1, 2])},
        {"weights": np.array([1, 2, 3], np.float32)},
        {"columns": {"p": np.array([0.0, 0.5, 1.0])}},
    ],
)
def test_fingerprint_changes_with_all_that_a_result_depends_on(changed):
    assert table().fingerprint() == table().fingerprint()
    assert replace(table(), **changed).fingerprint() != table().fingerprint()


def test_fingerprint_changes_when_a_file_changes_and_bears_a_missing_one(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths[:2]:
        path.write_bytes(b"x")
    files = replace(table(), images=paths)
    before = files.fingerprint()
    os.utime(paths[0], ns=(1, 1))
    touched = files.fingerprint()
    paths[1].write_bytes(b"xy")
    assert len({before, touched, files.fingerprint()}) == 3


def test_take_keeps_everything_of_the_rows():
    whole = replace(table(), split=np.array(["train", "val", "test"]), columns={"p": np.array([1.0, 2.0, 3.0])})
    part = whole.take(np.array([2, 0]))
    assert part.names == ["c", "a"]
    assert part.labels.tolist() == [1, 0]
    assert part.split is not None
    assert part.split.tolist() == ["test", "train"]
    assert part.columns["p"].tolist() == [3.0, 1.0]
    assert isinstance(part.images, np.ndarray)
    assert part.images[0].tolist() == [[8, 9], [10, 11]]


def test_class_counts_include_classes_without_rows():
    assert table().class_counts(np.array([1, 2])).tolist() == [0, 2]


def test_classes_that_are_numbers_are_sorted_by_value():
    problems = []
    assert order_classes(None, ["10", "9", "1"], problems) == ["1", "9", "10"]
    assert order_classes(None, ["10", "9", "x"], problems) == ["10", "9", "x"]
    assert problems == []


def test_classes_that_are_named_must_be_those_that_are_there():
    problems = []
    assert order_classes(["b", "a"], ["a", "b"], problems) == ["b", "a"]
    assert problems == []
    order_classes(["b", "x"], ["a", "b"], problems)
    assert "in no row: x; not named: a" in problems[0].text


def test_reading_and_checking_import_neither_torch_nor_scikit_learn():
    code = """
import sys, pkgutil, importlib
import tune.data.readers, tune.data.splits, tune.data.unreadable, tune.data.options
for module in pkgutil.iter_modules(tune.data.readers.__path__):
    importlib.import_module("tune.data.readers." + module.name)
from tune.data.readers.digits import Digits
tune.data.splits.check(Digits().read(), tune.data.splits.Split())
print([name for name in ("torch", "sklearn", "mlxtend", "pandas", "scipy") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
