from __future__ import annotations

import numpy as np
import pytest
import torch

from tune.data.samplers import balanced, by_class, choose_order, each_once
from tune.errors import ConfigError

ROWS = np.arange(100, 160)
LABELS = np.array([0] * 45 + [1] * 12 + [2] * 3)


def drawn(draw, seed=0):
    return draw(torch.Generator().manual_seed(seed))


def test_each_once_is_a_permutation_that_the_seed_decides():
    rows = drawn(each_once(ROWS))
    assert sorted(rows) == ROWS.tolist()
    assert (rows == drawn(each_once(ROWS))).all()
    assert (rows != drawn(each_once(ROWS), seed=1)).any()


def test_balanced_takes_every_class_equally_often_and_spreads_its_rows():
    rows = drawn(balanced(ROWS, LABELS))
    assert len(rows) == len(ROWS)
    counts = np.bincount(rows - 100, minlength=60)
    taken = [int(counts[label == LABELS].sum()) for label in range(3)]
    assert taken == [20, 20, 20]
    assert set(counts[LABELS == 2]) == {6, 7}  # 20 draws of 3 rows
    assert counts[LABELS == 0].max() == 1
    everything = np.concatenate([drawn(balanced(ROWS, LABELS), seed) for seed in range(20)])
    assert set(everything) == set(ROWS)  # no row is left out for ever


def test_by_class_keeps_rows_of_a_class_together_in_every_batch():
    rows = drawn(by_class(ROWS, LABELS, 4))
    labels = LABELS[rows - 100].reshape(-1, 4)
    assert len(rows) == len(ROWS)
    assert (labels == labels[:, :1]).all()
    assert set(labels[:3, 0]) == {0, 1, 2}  # classes come in turn
    assert (drawn(by_class(ROWS, LABELS, 4), seed=1) != rows).any()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sampler": "balanced"}, "data.sampler: balanced has no effect"),
        ({"world": 2}, "one process"),
        ({"batch_rows": 30}, "batch_size: 30 rows are not"),
        ({"batch_rows": 4}, "two or more classes of 4"),
        ({"labels": np.where(LABELS == 2, np.arange(60) + 5, LABELS)}, "class 62, 63, 64 has one training row"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(given, says):
    asked = {"sampler": "shuffle", "rows_per_class": 4, "rows": ROWS, "labels": LABELS, "batch_rows": 32, "world": 1}
    choose_order(**asked)
    with pytest.raises(ConfigError, match=says):
        choose_order(**{**asked, **given})
