from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from tune.data.options import separate
from tune.data.readers.elpv import Elpv
from tune.data.splits import Parts, Split, check, prevalence, split_rows
from tune.data.table import Table
from tune.errors import DataError


def table_of(labels, **more) -> Table:
    labels = np.asarray(labels)
    count = len(labels)
    return Table(
        names=[f"row {i}" for i in range(count)],
        labels=labels.astype(np.int64),
        classes=[f"c{i}" for i in range(int(labels.max()) + 1)],
        images=np.zeros((count, 1, 1), np.uint8),
        **more,
    )


def random_table(seed: int, rows: int = 200, classes: int = 3, **more) -> Table:
    return table_of(np.random.default_rng(seed).integers(0, classes, rows), **more)


def texts(problems) -> str:
    return "\n".join(f"{problem.key}: {problem.text}" for problem in problems)


def assert_disjoint_and_complete(table: Table, parts: Parts) -> None:
    together = [*parts.train, *parts.val, *parts.test]
    assert sorted(together) == list(range(len(table)))
    for _, rows in parts.items():
        assert list(rows) == sorted(rows)


def test_elpv_is_split_as_published():
    conf = Path(__file__).parents[3] / "conf" / "data" / "elpv.yaml"
    options, _ = separate(yaml.safe_load(conf.read_text(encoding="utf-8")))
    table = Elpv().read()
    parts = split_rows(table, options.split)
    assert [len(rows) for _, rows in parts.items()] == [1574, 394, 656]
    assert_disjoint_and_complete(table, parts)
    assert parts.how == "stratified by p and type"
    assert [round(100 * part.shares[1], 1) for part in prevalence(table, parts)] == [31.3, 31.2, 31.2]


@pytest.mark.parametrize("seed", range(8))
def test_every_stratum_is_divided_to_a_row(seed):
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(150, 400))
    table = random_table(seed, rows, columns={"site": draw.integers(0, 2, rows)})
    split = Split(val=0.15 + 0.05 * (seed % 3), test=0.1 * (seed % 4), seed=seed, stratify=["label", "site"])
    assert check(table, split) == []
    parts = split_rows(table, split)
    assert_disjoint_and_complete(table, parts)
    strata = list(zip(table.labels.tolist(), table.column("site").tolist(), strict=True))
    whole = Counter(strata)
    test = Counter(strata[row] for row in parts.test)
    val = Counter(strata[row] for row in parts.val)
    for stratum, count in whole.items():
        # Shares are of the part's own size, which is rounded up to a whole row.
        assert abs(test[stratum] - count * len(parts.test) / rows) < 1
        left = count - test[stratum]
        assert abs(val[stratum] - left * len(parts.val) / (rows - len(parts.test))) < 1


def test_the_split_depends_on_its_seed_alone():
    table = random_table(0)
    one, two, other = (split_rows(table, Split(seed=seed)) for seed in (3, 3, 4))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    np.testing.assert_array_equal(one.test, two.test)
    renamed = replace(table, names=[name.upper() for name in table.names])
    assert split_rows(renamed, Split(seed=3)).fingerprint != one.fingerprint


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together(seed):
    draw = np.random.default_rng(seed)
    table = random_table(seed, 300, columns={"who": draw.integers(0, 40, 300)})
    parts = split_rows(table, Split(group="who", seed=seed))
    assert_disjoint_and_complete(table, parts)
    seen = [set(table.column("who")[rows].tolist()) for _, rows in parts.items()]
    assert len(set.union(*seen)) == sum(map(len, seen))
    assert 0.12 < len(parts.test) / 300 < 0.28
    assert parts.how == "stratified by label, grouped by who"


def test_groups_that_the_data_give_are_kept_unasked():
    table = random_table(1, 100, group=np.repeat(np.arange(20), 5))
    parts = split_rows(table, Split())
    for _, rows in parts.items():
        assert all(count == 5 for count in Counter((rows // 5).tolist()).values())


def test_blocks_are_stretches_of_rows_of_equal_length():
    table = random_table(2, 240)
    parts = split_rows(table, Split(blocks=24))
    for _, rows in parts.items():
        assert all(count == 10 for count in Counter((rows // 10).tolist()).values())
    assert len(parts.test) == pytest.approx(48, abs=10)


@pytest.mark.parametrize(
    ("share", "best"), [(0.2, (1, 5)), (0.25, (1, 4)), (0.3, (3, 10)), (0.5, (1, 2)), (0.9, (9, 10))]
)
def test_folds_come_nearest_to_the_share(share, best):
    from tune.data.splits import _folds

    assert _folds(share, 100) == best
    taken, folds = _folds(share, 4)
    assert folds <= 4
    assert abs(taken / folds - share) == min(abs(m / n - share) for n in (2, 3, 4) for m in range(1, n))


def test_all_given_splits_are_used():
    given = np.array(["train", "val", "test"])[np.arange(30) % 3]
    table = table_of(np.arange(30) // 3 % 2, split=given)
    parts = split_rows(table, Split())
    for part, rows in parts.items():
        assert rows.tolist() == np.flatnonzero(given == part).tolist()
    assert parts.how == "train and val and test given"


def test_a_missing_val_is_cut_out_of_train():
    given = np.array(["train"] * 80 + ["test"] * 20)
    table = table_of(np.arange(100) % 2, split=given)
    parts = split_rows(table, Split(val=0.25, test=0.5))
    assert parts.test.tolist() == list(range(80, 100))
    assert len(parts.val) == 20
    assert_disjoint_and_complete(table, parts)


def test_rows_without_a_part_are_split_and_named_rows_stay():
    given = np.array(["train"] * 20 + [""] * 60 + ["test"] * 20)
    parts = split_rows(table_of(np.arange(100) % 2, split=given), Split(val=0.5))
    assert set(range(20)) <= set(parts.train.tolist())
    assert parts.test.tolist() == list(range(80, 100))
    assert len(parts.val) == 30


def test_per_class_limits_the_training_part_only_and_is_nested():
    table = random_table(3)
    whole, five, two = (split_rows(table, Split(per_class=count)) for count in (None, 5, 2))
    np.testing.assert_array_equal(whole.test, five.test)
    np.testing.assert_array_equal(whole.val, five.val)
    assert table.class_counts(five.train).tolist() == [5, 5, 5]
    assert set(two.train) < set(five.train) < set(whole.train)


def test_fraction_limits_each_class_and_is_nested():
    table = table_of(np.repeat([0, 1], [300, 30]))
    whole, half, tiny = (split_rows(table, Split(fraction=fraction)) for fraction in (1.0, 0.5, 0.01))
    counts = table.class_counts(whole.train)
    assert table.class_counts(half.train).tolist() == [round(count / 2) for count in counts]
    assert table.class_counts(tiny.train).tolist() == [2, 1]
    assert set(tiny.train) < set(half.train) < set(whole.train)


def test_no_test_part_is_possible():
    table = random_table(4)
    parts = split_rows(table, Split(test=0))
    assert len(parts.test) == 0
    assert_disjoint_and_complete(table, parts)


@pytest.mark.parametrize(
    ("table", "split", "text"),
    [
        (table_of([0] * 10), Split(), "data: one class only (c0)"),
        (table_of([0] * 50 + [1] * 2), Split(), "data: class c1 has too few rows to split: 2"),
        (table_of([0] * 50 + [2] * 9), Split(), "data: class c1 has no row"),
        (
            random_table(0),
            Split(stratify="site"),
            "data.split.stratify: the data have no column site. There are: label",
        ),
        (random_table(0), Split(group="who"), "data.split.group: the data have no column who"),
        (
            random_table(0, columns={"who": np.arange(200)}),
            Split(group="who", blocks=5),
            "data.split.blocks: has no effect beside",
        ),
        (random_table(0, 20), Split(blocks=21), "data.split.blocks: 21 blocks of 20 rows"),
        (random_table(0), Split(blocks=2), "data.split.blocks: 3 parts need at least 3 groups of rows; there are 2"),
        (random_table(0), Split(per_class=5, fraction=0.5), "data.split.fraction: has no effect"),
        (table_of([0] * 90 + [1] * 10), Split(per_class=8), "more than class c1 has in train: 7"),
        (
            table_of([0] * 10 + [1] * 10, columns={"p": np.arange(20) // 4}),
            Split(test=0.2, stratify="p"),
            "data.split.test: 0.2 of 20 rows leaves 4 for test, too few for 5 strata by p",
        ),
        (
            table_of([0, 1] * 20, columns={"p": np.array([7] + [5] * 39)}),
            Split(stratify=["p", "label"]),
            "data.split.stratify: p 7, class c0 has too few rows to split: 1; stratify by fewer columns",
        ),
        (
            table_of([0] * 20 + [1] * 5, split=np.array(["train"] * 20 + ["test"] * 5)),
            Split(),
            "data: class c1 has 5 rows in val and test, none in train",
        ),
        (table_of([0, 1] * 9, split=np.array(["test"] * 18)), Split(), "no row is left to train on"),
        (
            table_of([0, 1] * 8, split=np.array(["train", "train", "val", "val", "test", "test", "", ""] * 2)),
            Split(),
            "4 rows name no part, though train, val and test are given (first: row 6)",
        ),
    ],
)
def test_a_split_that_cannot_be_made_is_explained(table, split, text):
    problems = check(table, split)
    assert text in texts(problems)
    with pytest.raises(DataError):
        split_rows(table, split)


def test_all_unknown_columns_are_named_at_once():
    found = texts(check(table_of([0] * 5), Split(stratify=["a", "b"], group="c")))
    assert all(text in found for text in ("column a", "column b", "column c", "one class only"))


@pytest.mark.parametrize("seed", range(40))
def test_what_check_lets_pass_can_be_split(seed):
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(6, 60))
    table = table_of(np.concatenate([[0, 1, 2], draw.choice(3, rows - 3, p=[0.7, 0.2, 0.1])]))
    split = Split(val=float(draw.uniform(0.05, 0.7)), test=float(draw.uniform(0, 0.7)), seed=seed)
    if check(table, split):
        with pytest.raises(DataError):
            split_rows(table, split)
        return
    parts = split_rows(table, split)
    assert_disjoint_and_complete(table, parts)
    assert (table.class_counts(parts.train) > 0).all()


@pytest.mark.parametrize("seed", range(40))
def test_groups_give_parts_that_hold_or_an_error_that_explains(seed):
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(8, 60))
    labels = np.concatenate([[0, 1], draw.choice(2, rows - 2, p=[0.8, 0.2])])
    table = table_of(labels, group=draw.integers(0, int(draw.integers(2, 12)), rows))
    split = Split(val=float(draw.uniform(0.05, 0.9)), test=float(draw.uniform(0, 0.9)), seed=seed)
    try:
        parts = split_rows(table, split)
    except DataError as error:
        messages = ["class c1 has no row in train", "class c0 has no row in train", "no row for", "group"]
        assert any(message in str(error) for message in messages)  # noqa: PT017 -- either outcome is right
        return
    assert_disjoint_and_complete(table, parts)
    assert (table.class_counts(parts.train) > 0).all()
    of = [set(table.column("group")[part].tolist()) for _, part in parts.items()]
    assert len(set.union(*of)) == sum(map(len, of))


def test_a_class_whose_only_group_leaves_train_is_an_error():
    table = table_of([0] * 40 + [1] * 10, group=np.array([*np.arange(40) // 4, *[99] * 10]))
    messages = []
    for share in (0.5, 0.6, 0.7, 0.8, 0.9):
        try:
            split_rows(table, Split(test=share))
        except DataError as error:
            messages.append(str(error))
    assert any("class c1 has no row in train: its groups" in message for message in messages)


def test_prevalence_counts_each_part():
    table = random_table(5)
    parts = split_rows(table, Split())
    for row in prevalence(table, parts):
        labels = table.labels[parts.rows(row.part)].tolist()
        assert row.counts == [labels.count(label) for label in range(3)]
        assert row.num_rows == len(labels)
        assert sum(row.shares) == pytest.approx(1)
