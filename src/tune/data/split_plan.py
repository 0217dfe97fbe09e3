"""What a table and a split together ask for, and whether it can be had. No import of scikit-learn: milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tune.data.table import Table
from tune.errors import Problem

if TYPE_CHECKING:
    from tune.data.splits import Split


@dataclass(frozen=True)
class Plan:
    """What the data and the split together ask for.

    Args:
        given: (N,) part of each row that the data fix, "" where there is none.
        cut: parts to cut out of the pool, in this order.
        pool: rows to cut them from: those without a part, or, when every row has one, the training rows.
        pool_is_unsplit: the pool's rows have no part yet; what the cuts leave joins train.
        groups: (N,) whole numbers, or None.
    """

    given: np.ndarray
    cut: list[str]
    pool: np.ndarray
    pool_is_unsplit: bool
    groups: np.ndarray | None

    @staticmethod
    def of(table: Table, split: Split) -> Plan:
        """Needs columns that exist."""
        given = np.full(len(table), "") if table.split is None else table.split
        cut = [part for part in ("test", "val") if split.share(part) > 0 and not (given == part).any()]
        unsplit = np.flatnonzero(given == "")
        pool = unsplit if len(unsplit) else np.flatnonzero(given == "train")
        return Plan(given, cut, pool, len(unsplit) > 0, groups_of(table, split))


def check(table: Table, split: Split) -> list[Problem]:
    """Everything that makes this split of these rows impossible or useless. Fast: no import of scikit-learn."""
    problems = _check_keys(table, split)
    if table.num_classes < 2:
        only = f" ({table.classes[0]})" if table.classes else ""
        problems.append(Problem("data", f"one class only{only}; at least two are needed to tell apart"))
    for name, count in zip(table.classes, table.class_counts(), strict=True):
        if count == 0:
            problems.append(Problem("data", f"class {name} has no row"))
    if problems:
        return problems
    plan = Plan.of(table, split)
    return _check_given(table, plan) or _check_sizes(table, split, plan) or _check_limit(table, split, plan)


def unread(table: Table, split: Split) -> list[Problem]:
    """Keys of a split that the parts which the data give leave nothing to do for."""
    plan, usual = Plan.of(table, split), type(split)
    problems = [
        Problem(f"data.split.{part}", f"has no effect: the data say themselves which rows are {part}. Leave it out")
        for part in ("test", "val")
        if (plan.given == part).any() and getattr(split, part) != getattr(usual, part)
    ]
    if not plan.cut:
        keys = {"stratify": split.stratify, "group": split.group, "blocks": split.blocks}
        text = "has no effect: the data give every part, nothing is cut. Leave it out"
        problems += [Problem(f"data.split.{key}", text) for key, value in keys.items() if value is not None]
    return problems


def _check_keys(table: Table, split: Split) -> list[Problem]:
    problems = []
    known = table.column_names()
    for key, names in (("stratify", split.columns()), ("group", [split.group] if split.group else [])):
        problems += [
            Problem(f"data.split.{key}", f"the data have no column {name}. There are: {', '.join(known)}")
            for name in names
            if name not in known
        ]
    if split.group is not None and split.blocks is not None:
        problems.append(Problem("data.split.blocks", "has no effect beside data.split.group; give one of them"))
    if split.blocks is not None and split.blocks > len(table):
        problems.append(
            Problem("data.split.blocks", f"{split.blocks} blocks of {len(table)} rows: some would be empty")
        )
    problems += _check_folds(table, split)
    if split.per_class is not None and split.fraction < 1:
        problems.append(Problem("data.split.fraction", "has no effect beside data.split.per_class; give one of them"))
    return problems


def _check_folds(table: Table, split: Split) -> list[Problem]:
    if split.folds is None:
        return [] if split.fold is None else [Problem("data.split.fold", "has no effect without data.split.folds")]
    problems = []
    if split.fold is None:
        problems.append(Problem("data.split.fold", f"say which of the {split.folds} folds validates, from 0"))
    elif split.fold >= split.folds:
        problems.append(Problem("data.split.fold", f"{split.fold}: the {split.folds} folds are numbered from 0"))
    if split.val != type(split).val:
        problems.append(Problem("data.split.val", "has no effect beside data.split.folds; give one of them"))
    if table.split is not None and (table.split == "val").any():
        problems.append(Problem("data.split.folds", "the data name their validation rows; there is nothing to fold"))
    return problems


def _check_given(table: Table, plan: Plan) -> list[Problem]:
    if len(plan.pool) == 0:
        return [Problem("data", "no row is left to train on: the data put every row in val or test")]
    if plan.pool_is_unsplit and not plan.cut and (plan.given == "train").any():
        text = f"{len(plan.pool)} rows name no part, though train, val and test are given (first: "
        return [Problem("data", f"{text}{table.names[plan.pool[0]]})")]
    trained = table.class_counts(np.union1d(plan.pool, np.flatnonzero(plan.given == "train")))
    problems = []
    for name, train, every in zip(table.classes, trained, table.class_counts(), strict=True):
        if train == 0:
            problems.append(Problem("data", f"class {name} has {every} rows in val and test, none in train"))
    return problems


def _check_sizes(table: Table, split: Split, plan: Plan) -> list[Problem]:
    if not plan.cut:
        return []
    if plan.groups is not None:
        needed = len(plan.cut) + 1 if split.folds is None or "val" not in plan.cut else len(plan.cut) + split.folds - 1
        count = len(np.unique(plan.groups[plan.pool]))
        if count < needed:
            what = "data.split.blocks" if split.blocks else "data.split.group" if split.group else "data"
            return [Problem(what, f"{needed} parts need at least {needed} groups of rows; there are {count}")]
        return []
    problems = []
    strata, names = strata_of(table, split.columns())
    counts = np.bincount(strata[plan.pool], minlength=len(names))
    used = np.flatnonzero(counts)
    left = counts[used]
    for part in plan.cut:
        share, rows = split.share(part), int(left.sum())
        taken = int(np.ceil(share * rows))
        if taken < len(used) or rows - taken < len(used):
            small, what = min((taken, part), (rows - taken, "train"))
            text = f"{share:g} of {rows} rows leaves {small} for {what}, too few for {len(used)} {_stratum_word(split)}"
            return [Problem(f"data.split.{part}", text)]
        # Proportional parts are rounded up or down; count on the worse.
        left_after = left - np.ceil(left * (taken / rows) - 1e-9).astype(int)
        for i in np.flatnonzero((left < 2) | (left_after < 1)):
            text = f"{names[used[i]]} has too few rows to split: {counts[used[i]]}"
            advice = "" if split.stratify is None else "; stratify by fewer columns"
            problems.append(Problem("data" if split.stratify is None else "data.split.stratify", text + advice))
        if problems:
            return problems
        left = left_after
    return []


def _check_limit(table: Table, split: Split, plan: Plan) -> list[Problem]:
    if split.per_class is None:
        return []
    kept = 1.0
    for part in plan.cut:
        kept *= 1 - split.share(part)
    fixed = np.zeros(table.num_classes, dtype=int)
    if plan.pool_is_unsplit:
        fixed = table.class_counts(np.flatnonzero(plan.given == "train"))
    most = fixed + np.ceil(table.class_counts(plan.pool) * kept).astype(int)
    least = int(most.argmin())
    if split.per_class > most[least]:
        name = table.classes[least]
        text = f"{split.per_class} rows of each class are more than class {name} has in train: {most[least]}"
        return [Problem("data.split.per_class", text)]
    return []


def groups_of(table: Table, split: Split) -> np.ndarray | None:
    """(N,) number of each row's group, or None when rows stand alone."""
    if split.blocks is not None:
        return np.arange(len(table)) * split.blocks // len(table)
    name = split.group or ("group" if table.group is not None else None)
    return None if name is None else np.unique(table.column(name), return_inverse=True)[1]


def strata_of(table: Table, columns: list[str]) -> tuple[np.ndarray, list[str]]:
    """(N,) number of each row's stratum, and the strata's names."""
    values = [np.array(table.classes)[table.labels] if name == "label" else table.column(name) for name in columns]
    numbers = np.stack([np.unique(value, return_inverse=True)[1] for value in values], axis=1)  # (N, columns)
    _, first, strata = np.unique(numbers, axis=0, return_index=True, return_inverse=True)
    words = ["class" if name == "label" else name for name in columns]
    names = [", ".join(f"{word} {value[row]}" for word, value in zip(words, values, strict=True)) for row in first]
    return strata.reshape(-1), names


def _stratum_word(split: Split) -> str:
    return "classes" if split.columns() == ["label"] else f"strata by {' and '.join(split.columns())}"
