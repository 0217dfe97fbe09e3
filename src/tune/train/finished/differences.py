"""What is not as it was when a run was made: versions, commit, data, split. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tune.config.across.domains import closes_source
from tune.errors import DataError
from tune.train.devices.versions import git_sha, versions
from tune.train.rows import data_node, read_rows

if TYPE_CHECKING:
    from tune.data.splits import Parts
    from tune.data.table import Table


@dataclass(frozen=True)
class Difference:
    """One thing that is not what it was.

    Args:
        what: versions, git, data or weights.
        text: what it was, and what it is now.
    """

    what: str
    text: str


def environment(record: dict[str, Any]) -> list[Difference]:
    """Packages and the commit."""
    now = versions()
    found = [
        Difference("versions", f"{name} {before} then, {now.get(name, 'none')} now")
        for name, before in record["versions"].items()
        if now.get(name) != before
    ]
    sha = git_sha()
    if sha != record["git"]:
        found.append(Difference("git", f"{record['git'] or 'no repository'} then, {sha or 'no repository'} now"))
    elif sha.endswith("+"):
        found.append(Difference("git", f"{sha}: uncommitted changes then and now, which may not be the same"))
    return found


def data(record: dict[str, Any], config: dict[str, Any]) -> list[Difference]:
    """Rows and their split."""
    if closes_source(config):
        return []  # its classes are those of another run; the run itself looks at it
    try:
        table, parts = rows_again(record, config)
    except DataError as error:
        return [Difference("data", "; ".join(f"{each.key}: {each.text}" for each in error.problems))]
    before = record["data"]
    if table.fingerprint() != before["fingerprint"]:
        counts = sum(record["counts"].values())
        text = f"{counts} rows then, {len(table)} now" if counts != len(table) else "as many rows, but not the same"
        return [
            Difference("data", f"{text}: names, labels or files changed (fingerprint {before['fingerprint'][:12]})")
        ]
    if parts.fingerprint != before["split"]:
        return [Difference("data", "the rows are the same and are split otherwise")]
    return []


def rows_again(record: dict[str, Any], config: dict[str, Any]) -> tuple[Table, Parts]:
    """The rows of a run and their parts as they are read now, without opening an image.

    Raises:
        DataError: if they cannot be read, or not be split so.
    """
    table, divide = read_rows(data_node(config))
    bad = {name for name, _ in record["skipped"]}
    if bad:
        table = table.take(np.array([row for row, name in enumerate(table.names) if name not in bad]))
    return divide(table)
