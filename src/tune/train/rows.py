"""The rows that a config names, read and judged without torch: before anything starts, and again in the run."""

from __future__ import annotations

from typing import Any

from tune.config.build import build
from tune.data.options import separate
from tune.data.splits import Split, check
from tune.data.table import Table
from tune.data.tasks.columns import given_parts, unlearnable, with_tasks
from tune.errors import DataError, Problem, TuneError


def read_rows(node: dict[str, Any]) -> tuple[Table, Split]:
    """Read names and labels of a `data` node, and how they are to be split.

    Raises:
        DataError: if there is nothing to read, or the rows cannot be split so.
    """
    options, reader = separate(node)
    table = with_tasks(build(reader).read(), options.tasks)
    if problems := check(table, options.split) or unlearnable(table, given_parts(table)):
        raise DataError(*problems)
    return table, options.split


def data_problems(node: dict[str, Any]) -> tuple[list[Problem], str]:
    """Problems of a `data` node, and the fingerprint of its rows where there are none."""
    try:
        table, _ = read_rows(node)
    except DataError as error:
        return error.problems, ""
    except TuneError as error:
        return [Problem("data", str(error))], ""
    return [], table.fingerprint()
