"""One table of two domains, and their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tune.data.split_plan import check
from tune.data.splits import Parts, Split, split_rows
from tune.data.table import SPLITS, Table
from tune.errors import DataError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def join(tables: Mapping[str, Table]) -> Table:
    """One table of the rows of "source" (where it is read) and "target"; names begin with that of their domain.

    Weights, groups and columns that one side alone has are 1, "" and "" on the other.

    Raises:
        DataError: if the classes are not the same.
    """
    source, target = tables.get("source"), tables["target"]
    if source is not None:
        if not source.is_labelled:
            raise DataError(Problem("data.source", "its rows have no labels, so there is nothing to learn from"))
        target = with_classes(target, source.classes, "data.target", "the source")
    sides = {"source": source, "target": target} if source is not None else {"target": target}
    rows: list[Table] = list(sides.values())
    names = [f"{domain}/{name}" for domain, table in sides.items() for name in table.names]
    columns = sorted({name for table in rows for name in table.columns})
    return Table(
        names=names,
        labels=np.concatenate([table.labels for table in rows]),
        classes=target.classes,
        images=_images(rows),
        split=_column(rows, lambda table: table.split, ""),
        group=_column(rows, lambda table: table.group, ""),
        weights=_column(rows, lambda table: table.weights, 1.0),
        columns={name: _present(rows, lambda table, name=name: table.columns.get(name)) for name in columns},
        domain=np.array([domain for domain, table in sides.items() for _ in range(len(table))]),
        about=" → ".join(table.about for table in rows if table.about),
        notes=tuple(note for table in rows for note in table.notes),
    )


def with_classes(table: Table, classes: list[str], key: str, whose: str) -> Table:
    """The table with its classes in the order of others, which must be the same; rows without labels take any.

    Args:
        table: with labels or without.
        classes: in the order wanted.
        key: whose problem it is when they differ.
        whose: classes they are.

    Raises:
        DataError: if they are not the same.
    """
    if not table.is_labelled or table.classes == classes:
        return replace(table, classes=classes)
    if set(table.classes) != set(classes):
        text = f"{whose} has the classes {', '.join(classes)}; here they are {', '.join(table.classes)}"
        raise DataError(Problem(key, f"{text}. Both must have the same: name them alike, or leave some out"))
    places = np.array([classes.index(name) for name in table.classes])
    return replace(table, labels=places[table.labels], classes=classes)


def check_sides(table: Table, splits: Mapping[str, Split]) -> list[Problem]:
    """What makes the split of a domain impossible or useless, see `tune.data.split_plan.check`."""
    found = []
    for domain, rows in _rows_of(table).items():
        side = _side(table, rows)
        if side.is_labelled:
            found += [
                Problem(problem.key, f"{problem.text} (rows of the {domain})", problem.where)
                for problem in check(side, splits[domain])
            ]
        elif len(rows) < 2:
            found.append(Problem(f"data.{domain}", "has one row only; it takes some to train on and some to validate"))
    return found


def split_sides(table: Table, splits: Mapping[str, Split]) -> Parts:
    """The parts of both domains together; each is split as it would be alone."""
    parts: dict[str, list[NDArray[Any]]] = {part: [] for part in SPLITS}
    how = []
    for domain, rows in _rows_of(table).items():
        side = _side(table, rows)
        own = split_rows(side, splits[domain]) if side.is_labelled else _split_unlabelled(side, splits[domain])
        for part, chosen in own.items():
            parts[part].append(rows[chosen])
        how.append(f"{domain} {own.how}")
    digest = hashlib.sha256()
    chosen = {part: np.concatenate(some) for part, some in parts.items()}
    for part in SPLITS:
        text = "\x00".join([part, *(table.names[row] for row in chosen[part])])
        digest.update(text.encode("utf-8", "surrogateescape") + b"\x01")
    return Parts(**chosen, fingerprint=digest.hexdigest(), how="; ".join(dict.fromkeys(how)))


def _split_unlabelled(side: Table, split: Split) -> Parts:
    """Rows without labels can be held out to choose an epoch, but not to be tested on."""
    order = np.random.default_rng(split.seed).permutation(len(side))
    held = min(max(1, round(split.val * len(side))), len(side) - 1)
    empty = np.zeros(0, dtype=np.int64)
    return Parts(np.sort(order[held:]), np.sort(order[:held]), empty, "", "without labels, no test part")


def _rows_of(table: Table) -> dict[str, NDArray[Any]]:
    assert table.domain is not None
    return {domain: rows for domain in ("source", "target") if len(rows := np.flatnonzero(table.domain == domain))}


def _side(table: Table, rows: NDArray[Any]) -> Table:
    side = table.take(rows)
    group = side.group if side.group is not None and (side.group != "").any() else None
    given = side.split if side.split is not None and (side.split != "").any() else None
    return replace(side, domain=None, group=group, split=given)


def _images(rows: list[Table]) -> Any:
    arrays = [table.images for table in rows if isinstance(table.images, np.ndarray)]
    if len(arrays) == len(rows) and len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return [image for table in rows for image in table.images]


def _column(rows: list[Table], of: Callable[[Table], Any], otherwise: Any) -> Any:
    """A column of all rows, None where no table has it."""
    found = [of(table) for table in rows]
    if all(values is None for values in found):
        return None
    filled = [
        np.full(len(table), otherwise) if values is None else values for table, values in zip(rows, found, strict=True)
    ]
    if isinstance(otherwise, str):
        filled = [values.astype(str) for values in filled]
    return np.concatenate(filled)


def _present(rows: list[Table], of: Callable[[Table], Any]) -> Any:
    """A further column: as it is where both have it, as text where one has not."""
    found = [of(table) for table in rows]
    return np.concatenate(found) if all(values is not None for values in found) else _column(rows, of, "")
