"""From columns of a table to tasks, and what keeps a task from being learned or validated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tune.data.table import Table, order_classes
from tune.data.tasks.task import Task, TaskLabels, TaskOptions
from tune.errors import DataError, Problem

if TYPE_CHECKING:
    from tune.data.splits import Parts

SEPARATOR = "|"
"""Between two labels of a row; alone it says that the row has none."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # part of metrics and of file names


def with_tasks(table: Table, options: Mapping[str, TaskOptions]) -> Table:
    """The table with its tasks read from its columns.

    Empty text and NaN say nothing of a row. Classes and labels are sorted, whole numbers by value.

    Raises:
        DataError: with every task that has no column, no value, values that are no numbers, or nothing to tell apart.
    """
    problems: list[Problem] = []
    tasks = {}
    for name, asked in options.items():
        key, column = f"data.tasks.{name}", asked.column or name
        if not _NAME.fullmatch(name):
            problems.append(Problem(key, "is no name for a task: a letter, then letters, digits, _ or -"))
        elif column not in table.columns:
            there = f"It has: {', '.join(table.columns)}" if table.columns else "These data have none beside the label"
            problems.append(Problem(f"{key}.column", f"there is no column {column}. {there}"))
        else:
            labels, why = _read(table, column, asked)
            tasks[name] = labels
            problems += [Problem(key, why)] if why else []
    if problems:
        raise DataError(*problems)
    return replace(table, tasks=tasks)


def unlearnable(table: Table, parts: Mapping[str, np.ndarray]) -> list[Problem]:
    """What a split leaves without labels.

    Args:
        table: with its tasks.
        parts: rows of each part that is known; a test part needs no labels.
    """
    problems = []
    for name, labels in table.tasks.items():
        found = []
        for part in ("train", "val"):
            rows = parts.get(part, np.empty(0, dtype=int))
            if len(rows) and not labels.is_given[rows].any():
                found.append(f"no row of {part} has a label of it. Label some, or take another data.split")
        if not found and "train" in parts:
            found = _untrainable(labels, parts["train"])
        problems += [Problem(f"data.tasks.{name}", text) for text in found]
    return problems


def labelled(table: Table, parts: Parts) -> dict[str, dict[str, int]]:
    """Rows of train, val and test that have a label, of each task."""
    return {
        name: {part: int(labels.is_given[rows].sum()) for part, rows in parts.items()}
        for name, labels in table.tasks.items()
    }


def given_parts(table: Table) -> dict[str, np.ndarray]:
    """Rows of val where the data say which they are; what trains is known when the split is made."""
    rows = np.flatnonzero(table.split == "val") if table.split is not None else np.empty(0, dtype=int)
    return {"val": rows}


def standardised(table: Table, train: np.ndarray) -> Table:
    """The table with each regression's centre and scale set from the training rows."""
    tasks = {}
    for name, labels in table.tasks.items():
        tasks[name] = labels
        if labels.task.kind == "regression":
            values = labels.values[train[labels.is_given[train]]]
            task = replace(labels.task, centre=float(values.mean()), scale=float(values.std()))
            tasks[name] = replace(labels, task=task)
    return replace(table, tasks=tasks)


def _untrainable(labels: TaskLabels, train: np.ndarray) -> list[str]:
    if labels.task.kind == "regression":
        values = labels.values[train[labels.is_given[train]]]
        return [f"all training rows have the same value, {values[0]:g}"] if np.ptp(values) == 0 else []
    without = [name for name, n in zip(labels.task.classes, labels.counts(train), strict=True) if n == 0]
    return [f"no row of train has {', '.join(without)}. Take another data.split, or merge it"] if without else []


def _read(table: Table, column: str, asked: TaskOptions) -> tuple[TaskLabels, str]:
    """The labels of a column, and what is wrong with them."""
    cells = table.columns[column].tolist()
    if asked.kind == "regression":
        numbers = [_number(cell) for cell in cells]
        wrong = [row for row, number in enumerate(numbers) if math.isinf(number)]
        labels = TaskLabels(Task(asked.kind, [], asked.weight), np.array(numbers, dtype=np.float64))
        if wrong:
            first = f"{cells[wrong[0]]!r} of {table.names[wrong[0]]}"
            return labels, f"{len(wrong)} values of {column} are no finite numbers (first: {first})"
    else:
        words = [_words(cell, asked.kind == "multi_label") for cell in cells]
        classes = order_classes(None, (word for own in words if own is not None for word in own), [])
        place = {name: number for number, name in enumerate(classes)}
        if asked.kind == "classification":
            values = np.array([math.nan if own is None else place[own[0]] for own in words])
        else:
            values = _one_hot(words, place)
        labels = TaskLabels(Task(asked.kind, classes, asked.weight), values)
        if not classes:
            return labels, f"no row has a label in {column}"
        if len(classes) == 1 and asked.kind == "classification":
            return labels, f"all rows of {column} that say anything say {classes[0]}; two classes are needed"
    return labels, "" if labels.is_given.any() else f"no row has a number in {column}"


def _one_hot(words: list[list[str] | None], place: dict[str, int]) -> np.ndarray:
    """(N, L), NaN in rows that say nothing."""
    values = np.zeros((len(words), len(place)))
    for row, own in enumerate(words):
        if own is None:
            values[row] = np.nan
        else:
            values[row, [place[word] for word in own]] = 1
    return values


def _text(cell: Any) -> str:
    """A cell as text, empty where it says nothing."""
    text = f"{cell:g}" if isinstance(cell, float) else str(cell).strip()
    return "" if text.lower() == "nan" else text


def _words(cell: Any, several: bool) -> list[str] | None:
    """The class, or the labels, that a cell names; None where it says nothing."""
    text = _text(cell)
    if not text:
        return None
    return [word for part in text.split(SEPARATOR) if (word := part.strip())] if several else [text]


def _number(cell: Any) -> float:
    """The number in a cell; NaN where it says nothing, infinite where it is none."""
    if not _text(cell):
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return math.inf
