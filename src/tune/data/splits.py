"""Which rows train, which choose the best epoch, which are kept for the end.

`check` sees without scikit-learn, in milliseconds, whether a split can be made; `split_rows` makes it.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from tune.data.split_plan import Plan, check, strata_of
from tune.data.table import SPLITS, Table
from tune.data.tasks.columns import unlearnable
from tune.errors import DataError, Problem
from tune.ranges import Range

_MAX_FOLDS = 20


@dataclass(frozen=True)
class Split:
    """How rows are divided. Parts that the data give are kept; the others are cut out of the rows left for training.

    The test part is cut first, then val out of what is left. Cuts are stratified: every stratum is divided in the same
    proportion, to a row. With groups (``group``, ``blocks``, or groups that the data give) whole groups are dealt out,
    so proportions are only approximate.

    Args:
        val: share of the rows left after the test part; of no effect beside `folds`.
        test: share of all rows; 0 for no test part.
        folds: deal the rows left after the test part into so many folds, of which one validates and the others train.
        fold: the one that validates, from 0; without it a run is a sweep over all folds.
        seed: of the split alone; training has its own.
        stratify: columns whose combinations of values are the strata; null for the label.
        group: column whose equal values stay in one part.
        blocks: cut the rows, in the data's order, into so many stretches of equal length, each kept in one part.
        per_class: train on so many rows of each class. A smaller number takes a part of the same rows.
        fraction: train on this share of the rows of each class, at least one; likewise nested.
    """

    val: Annotated[float, Range("(0, 1)")] = 0.2
    test: Annotated[float, Range("[0, 1)")] = 0.2
    folds: Annotated[int, Range("[2, 100]")] | None = None
    fold: Annotated[int, Range("[0, 99]")] | None = None
    seed: Annotated[int, Range("[0, 4294967295]")] = 0
    stratify: str | list[str] | None = None
    group: str | None = None
    blocks: Annotated[int, Range("[2, inf)")] | None = None
    per_class: Annotated[int, Range("[1, inf)")] | None = None
    fraction: Annotated[float, Range("(0, 1]")] = 1.0

    def share(self, part: str) -> float:
        """Of the rows that "test" or "val" is cut from."""
        return 1 / self.folds if part == "val" and self.folds else float(getattr(self, part))

    def columns(self) -> list[str]:
        """Names of the columns that make the strata."""
        if self.stratify is None:
            return ["label"]
        return [self.stratify] if isinstance(self.stratify, str) else list(self.stratify)


@dataclass(frozen=True)
class Parts:
    """Rows of each part, ascending, no row in two. All rows are in one, unless the training part was limited.

    Args:
        fingerprint: SHA-256 hex over the names of the rows in each part.
        how: how the parts came about, in a few words for the first screen ("stratified by p and type").
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    fingerprint: str
    how: str

    def rows(self, part: str) -> np.ndarray:
        """Rows of "train", "val" or "test"."""
        return dict(self.items())[part]

    def items(self) -> list[tuple[str, np.ndarray]]:
        """(name, rows) of train, val and test."""
        return [("train", self.train), ("val", self.val), ("test", self.test)]


@dataclass(frozen=True)
class Prevalence:
    """How often each class occurs in one part: K counts, and K shares that add up to 1 (all 0 in an empty part)."""

    part: str
    num_rows: int
    counts: list[int]
    shares: list[float]


def prevalence(table: Table, parts: Parts) -> list[Prevalence]:
    """One for each of train, val and test."""
    result = []
    for part in SPLITS:
        counts = table.class_counts(parts.rows(part)).tolist()
        total = sum(counts)
        result.append(Prevalence(part, total, counts, [count / max(total, 1) for count in counts]))
    return result


def split_rows(table: Table, split: Split) -> Parts:
    """The parts, the same for the same table and split on every machine.

    Raises:
        DataError: all that `check` finds; or a class that is left without a training row by its groups or strata.
    """
    problems = check(table, split)
    if problems:
        raise DataError(*problems)
    plan = Plan.of(table, split)
    chosen = {part: np.flatnonzero(plan.given == part) for part in SPLITS}
    pool = plan.pool
    for part in plan.cut:
        if part == "val" and split.folds:
            pool, chosen[part] = _fold(pool, table, split, plan.groups)
        else:
            pool, chosen[part] = _cut(pool, getattr(split, part), table, split, plan.groups)
    if plan.cut or plan.pool_is_unsplit:
        chosen["train"] = np.sort(np.concatenate([chosen["train"], pool])) if plan.pool_is_unsplit else pool
    chosen["train"] = _limit(chosen["train"], table, split)
    _refuse_holes(table, chosen, plan)
    digest = hashlib.sha256()
    for part in SPLITS:
        digest.update(
            "\x00".join([part, *(table.names[row] for row in chosen[part])]).encode("utf-8", "surrogateescape")
        )
        digest.update(b"\x01")
    return Parts(**chosen, fingerprint=digest.hexdigest(), how=_describe(table, split, plan))


def _refuse_holes(table: Table, chosen: dict[str, np.ndarray], plan: Plan) -> None:
    """What only the finished split shows."""
    problems = [
        Problem("data.split", f"no row for {part}: the groups are too few or too uneven. Take another share or seed")
        for part in ["train", *plan.cut]
        if len(chosen[part]) == 0
    ]
    if not problems:
        for name, count in zip(table.classes, table.class_counts(chosen["train"]), strict=True):
            if count == 0:
                text = f"class {name} has no row in train: its groups or strata all went elsewhere. Take another seed"
                problems.append(Problem("data.split", text))
        problems += unlearnable(table, chosen)
    if problems:
        raise DataError(*problems)


def _cut(pool: np.ndarray, share: float, table: Table, split: Split, groups: np.ndarray | None):
    """What is left of the pool, and the part of about this share; both ascending."""
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split  # 0.7 s, so only when needed

    strata, _ = strata_of(table, split.columns())
    if groups is None:
        left, part = train_test_split(pool, test_size=share, stratify=strata[pool], random_state=split.seed)
        return np.sort(left), np.sort(part)
    num_groups = len(np.unique(groups[pool]))
    if num_groups < 2:
        text = "a single group of rows is left to cut a part from; take smaller shares or more groups"
        raise DataError(Problem("data.split", text))
    taken, folds = _folds(share, num_groups)
    tests = _deal(StratifiedGroupKFold(folds, shuffle=True, random_state=split.seed), pool, strata, groups)
    is_taken = np.zeros(len(pool), dtype=bool)
    is_taken[np.concatenate(tests[:taken])] = True
    return pool[~is_taken], pool[is_taken]


def _fold(pool: np.ndarray, table: Table, split: Split, groups: np.ndarray | None):
    """The rows outside and inside of the fold that validates, both ascending. All folds are of one seed."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    assert split.folds is not None
    assert split.fold is not None
    strata, _ = strata_of(table, split.columns())
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    inside = _deal(kind(split.folds, shuffle=True, random_state=split.seed), pool, strata, groups)[split.fold]
    return np.delete(pool, inside), pool[inside]


def _deal(deal: Any, pool: np.ndarray, strata: np.ndarray, groups: np.ndarray | None) -> list[np.ndarray]:
    """Places in the pool of the rows of each fold, ascending."""
    with warnings.catch_warnings():
        # A class smaller than the number of folds is no mistake here, and an empty one is found afterwards.
        warnings.filterwarnings("ignore", message="The least populated class")
        classes = _whole_classes(strata[pool], deal.n_splits)
        return [inside for _, inside in deal.split(pool, classes, None if groups is None else groups[pool])]


def _whole_classes(strata: np.ndarray, folds: int) -> np.ndarray:
    """The strata, or one single stratum when scikit-learn would refuse because all are smaller than the folds."""
    return strata if np.bincount(strata).max() >= folds else np.zeros_like(strata)


def _folds(share: float, num_groups: int) -> tuple[int, int]:
    """(m, n), n up to 20 and the number of groups, with m/n nearest to the share; the smallest n among equals."""
    pairs = [(m, n) for n in range(2, min(_MAX_FOLDS, num_groups) + 1) for m in range(1, n)]
    return min(pairs, key=lambda pair: (round(abs(pair[0] / pair[1] - share), 12), pair[1]))


def _limit(rows: np.ndarray, table: Table, split: Split) -> np.ndarray:
    if split.per_class is None and split.fraction == 1:
        return rows
    kept = []
    for label in range(table.num_classes):
        own = rows[table.labels[rows] == label]
        shuffled = np.random.default_rng([split.seed, label]).permutation(own)
        count = split.per_class or max(1, round(split.fraction * len(own)))
        if split.per_class and count > len(own):
            text = f"{count} rows of each class are more than class {table.classes[label]} has in train: {len(own)}"
            raise DataError(Problem("data.split.per_class", text))
        kept.append(shuffled[:count])
    return np.sort(np.concatenate(kept))


def _describe(table: Table, split: Split, plan: Plan) -> str:
    given = [part for part in SPLITS if (plan.given == part).any()]
    words = [f"{' and '.join(given)} given"] if given else []
    if plan.cut:
        words.append(f"stratified by {' and '.join(split.columns())}")
        if split.folds is not None:
            words.append(f"fold {split.fold} of {split.folds} validates")
        if split.blocks is not None:
            words.append(f"in {split.blocks} blocks of rows")
        elif plan.groups is not None:
            words.append(f"grouped by {split.group or 'group'}")
    if split.per_class is not None:
        words.append(f"{split.per_class} training rows of each class")
    if split.fraction < 1:
        words.append(f"{split.fraction:g} of the training rows")
    return ", ".join(words)
