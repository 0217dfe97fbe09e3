"""The rows that a finished run is measured on: its own validation or test part, or other data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tune.config.across.domains import is_domains
from tune.config.build import build
from tune.config.overrides import COMMAND_LINE
from tune.data.loading.orders import tested_rows
from tune.data.options import separate
from tune.data.unreadable import drop_unreadable
from tune.errors import ConfigError, DataError, Problem
from tune.evaluate.paired import read_predictions
from tune.run_dir import read_json, run_id
from tune.train.adapt.beside import with_source
from tune.train.prepare import read_data

if TYPE_CHECKING:
    from tune.data.table import Table

_WITHOUT_VIEWS = "what is fitted reads what was said of each row by those that it did not train: leave out --tta"


@dataclass(frozen=True)
class Rows:
    """N labelled images.

    Args:
        images: files or arrays.
        labels: (N,) int64, numbers of the run's classes.
        names: N names.
        skipped: (name, reason) of those that cannot be decoded.
    """

    images: Sequence[Any]
    labels: np.ndarray
    names: list[str]
    skipped: list[tuple[str, str]]


def own_rows(run_dir: Path, config: dict[str, Any]) -> dict[str, Rows]:
    """Validation and test rows of a run, by the name of the part.

    Raises:
        ConfigError: if the data or their split are not what they were, or there is no test part.
    """
    record, name = read_json(run_dir / "run.json"), run_id(run_dir)
    table, parts, skipped, _ = read_data(with_source(config, lambda line: None))
    if table.fingerprint() != record["data"]["fingerprint"]:
        raise ConfigError(Problem(name, "the data changed since this run: other rows, names, labels or weights"))
    if parts.fingerprint != record["data"]["split"]:
        raise ConfigError(Problem(name, "its test part is not what it was: the rows are split otherwise now"))
    rows = {"val": table.labelled(parts.val), "test": tested_rows(table, parts)}
    if not len(rows["test"]):
        raise ConfigError(Problem(name, "has no test part; name other data: data.root=DIR"))
    return {part: rows_of(table, some, skipped) for part, some in rows.items()}


def rows_of(table: Table, some: np.ndarray, skipped: list[tuple[str, str]]) -> Rows:
    """Rows of a table by their numbers."""
    return Rows([table.images[i] for i in some], table.labels[some], [table.names[i] for i in some], skipped)


def validation_rows(run_dir: Path, configs: dict[Path, dict[str, Any]]) -> Rows:
    """Validation rows, to be seen anew by a run, or by an ensemble none of whose members learned from them.

    Args:
        run_dir: its folder.
        configs: of it, or of its members, from `read_configs`.

    Raises:
        ConfigError: as `own_rows`, or if a member learned from rows that another validates, or a stack from all.
    """
    if read_json(run_dir / "run.json").get("ensemble", {}).get("how") == "stack":
        raise ConfigError(Problem("--tta", f"a stack learned from its validation rows; {_WITHOUT_VIEWS}", COMMAND_LINE))
    if len({frozenset(read_predictions(each / "predictions" / "val.csv")[1]) for each in configs}) > 1:
        text = "the members validate different rows (folds), so that each row trained some of them"
        raise ConfigError(Problem("--tta", f"{text}; {_WITHOUT_VIEWS}", COMMAND_LINE))
    return own_rows(*next(iter(configs.items())))["val"]


def other_rows(node: dict[str, Any], classes: list[str]) -> Rows:
    """All rows of other data, their labels numbered as the run numbers its classes.

    Args:
        node: a checked `data` node.
        classes: of the run; the data may lack some of them.

    Raises:
        DataError: if they cannot be read, have no labels, or have a class that the run does not know.
    """
    if is_domains(node):
        raise DataError(Problem("data", "holds two domains; name the data of one: data=csv data.file=FILE"))
    options, reader = separate(node)
    table, skipped = drop_unreadable(build(reader).read(), options.unreadable)
    if not table.is_labelled:
        raise DataError(Problem("data", "its rows have no labels, so nothing can be measured: tune predict RUN PATH"))
    present = [name for name, count in zip(table.classes, table.class_counts(), strict=True) if count]
    if strange := [name for name in present if name not in classes]:
        text = f"has classes that the run does not know: {', '.join(strange)}. It knows: {', '.join(classes)}"
        raise DataError(Problem("data", text))
    numbers = np.array([classes.index(name) if name in classes else -1 for name in table.classes], dtype=np.int64)
    return Rows(list(table.images), numbers[table.labels], table.names, skipped)
