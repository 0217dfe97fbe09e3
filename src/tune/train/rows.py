"""The rows that a config names, read and judged without torch: before anything starts, and again in the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tune.config.across.domains import DOMAINS, closes_source, is_domains
from tune.config.build import build
from tune.data.domains.join import check_sides, split_sides
from tune.data.domains.side import separate_sides
from tune.data.options import separate
from tune.data.readers.domains import Domains
from tune.data.split_plan import unread
from tune.data.splits import Parts, check, split_rows
from tune.data.table import Table
from tune.data.tasks.columns import given_parts, unlearnable, with_tasks
from tune.errors import DataError, Problem, TuneError

Divide = Callable[[Table], tuple[Table, Parts]]
"""Splits rows as a config says, or raises DataError; gives the table with what the run may know of it."""


def data_node(cfg: dict[str, Any]) -> dict[str, Any]:
    """The `data` node that a run reads: rows of a target alone where the source must stay closed."""
    node = cfg["data"]
    if not closes_source(cfg):
        return node
    if is_domains(node):
        return {**node, "source": None}
    _, reader = separate(node)
    options = {key: value for key, value in node.items() if key not in reader}
    return {"_target_": DOMAINS, "source": None, "target": reader, **options}


def read_rows(node: dict[str, Any]) -> tuple[Table, Divide]:
    """Read names and labels of a `data` node, and how they are to be split.

    Raises:
        DataError: if there is nothing to read, or the rows cannot be split so.
    """
    if is_domains(node):
        return _read_sides(node)
    options, reader = separate(node)
    table = with_tasks(build(reader).read(), options.tasks)
    if not table.is_labelled:
        text = "its rows have no labels, so there is nothing to learn from; it can be the target of data=domains"
        raise DataError(Problem("data", text))
    _refuse_strange(table)
    if problems := check(table, options.split) or unlearnable(table, given_parts(table)):
        raise DataError(*problems)
    return table, lambda table: (table, split_rows(table, options.split))


def _refuse_strange(table: Table) -> None:
    """Labels that no class has, as from a reader of the user's own that counts from 1."""
    last = table.num_classes - 1
    if len(table) and table.labels.max() > last:
        text = f"labels go from {int(table.labels.min())} to {int(table.labels.max())}"
        raise DataError(Problem("data", f"{text}; {table.num_classes} classes are counted from 0 to {last}"))


def _read_sides(node: dict[str, Any]) -> tuple[Table, Divide]:
    options, rest = separate(node)
    node, splits = separate_sides(rest, node.get("split", {}))
    reader: Domains = build(node)
    table = reader.read()
    if problems := check_sides(table, splits):
        raise DataError(*problems)

    def divide(table: Table) -> tuple[Table, Parts]:
        if problems := check_sides(table, splits):
            raise DataError(*problems)
        parts = split_sides(table, splits)
        return reader.hide(table, parts, options.split.seed), parts

    return table, divide


def judge(cfg: dict[str, Any]) -> tuple[list[Problem], str]:
    """Problems of the data of a run, and the fingerprint of its rows where there are none."""
    node = data_node(cfg)
    try:
        table, _ = read_rows(node)
    except DataError as error:
        return error.problems, ""
    except TuneError as error:
        return [Problem("data", str(error))], ""
    if not is_domains(node) and (problems := unread(table, separate(node)[0].split)):
        return problems, ""
    return [], table.fingerprint()
