"""What happens to images that cannot be decoded: all are listed, none is replaced."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np

from tune.data.images import unreadable
from tune.data.table import Table
from tune.errors import DataError, Problem

_SHOWN = 20


def drop_unreadable(
    table: Table,
    mode: Literal["error", "skip"] = "error",
    workers: int | None = None,
    known: Collection[Path] = (),
) -> tuple[Table, list[tuple[str, str]]]:
    """The table without the rows whose image cannot be decoded, and (name, reason) of those.

    Args:
        table: all rows.
        mode: what to do about them.
        workers: threads; as many as the processor has cores when None.
        known: files that were decoded before and are what they were then.

    Raises:
        DataError: with ``mode="error"``, if there are any; names the first 20 and says how many there are.
    """
    if isinstance(table.images, np.ndarray):
        return table, []
    files = {row: path for row, path in enumerate(table.images) if isinstance(path, Path) and path not in known}
    rows = list(files)
    bad = [(rows[i], reason) for i, reason in unreadable(list(files.values()), workers)]
    listed = [(table.names[row], reason) for row, reason in bad]
    if mode == "error" and bad:
        problems = [Problem(str(table.images[row]), reason) for row, reason in bad[:_SHOWN]]
        rest = f" ({_SHOWN} are shown)" if len(bad) > _SHOWN else ""
        advice = "repair or remove them, or leave them out with data.unreadable=skip"
        text = f"{len(bad)} of {len(table)} images cannot be read{rest}; {advice}"
        raise DataError(Problem("data.unreadable", text), *problems)
    if len(bad) == len(table):
        raise DataError(Problem("data", f"none of {len(table)} images can be read; the first: {listed[0][1]}"))
    if not bad:
        return table, []
    return table.take(np.setdiff1d(np.arange(len(table)), [row for row, _ in bad])), listed
