from __future__ import annotations

from dataclasses import replace
from typing import Annotated, final

import numpy as np

from tune.data.domains.join import join
from tune.data.readers.interface import Reader
from tune.data.splits import Parts
from tune.data.table import Table
from tune.errors import DataError, Problem
from tune.ranges import Range


@final
class Domains(Reader):
    """A labelled source and a target, each any other data option; labels of the target are for the final report only.

    Each is split by itself, by `data.split` and what its own option says of it: its test rows are those that a run on
    it alone would have. Both must have the same classes; their order is the source's.

    Args:
        source: rows that the network learns from; null where it must not be opened.
        target: rows that it is meant for; its labels may be missing.
        labelled: training rows of each class of the target whose label the run may know all the same.
    """

    def __init__(self, source: Reader | None, target: Reader, labelled: Annotated[int, Range("[0, inf)")] = 0) -> None:
        self.source, self.target, self.labelled = source, target, labelled

    def read(self) -> Table:
        """Rows of the source, then rows of the target."""
        tables: dict[str, Table] = {}
        for domain, reader in (("source", self.source), ("target", self.target)):
            if reader is None:
                continue
            try:
                table = reader.read()
            except DataError as error:
                raise DataError(*(_within(problem, domain) for problem in error.problems)) from error
            if not len(table):
                raise DataError(Problem(f"data.{domain}", "has no rows"))
            tables[domain] = table
        return join(tables)

    def hide(self, table: Table, parts: Parts, seed: int) -> Table:
        """The table with what the run may know of the labels: all of the source, `labelled` of each target class.

        Labels of test rows are known to the report; whoever trains never meets these rows.

        Args:
            table: of both.
            parts: of both.
            seed: of the choice; a smaller number of rows takes a part of the same.

        Raises:
            DataError: if a class of the target has fewer training rows.
        """
        assert table.domain is not None
        train, known = parts.train, table.domain == "source"
        for label in range(table.num_classes) if self.labelled else ():
            own = train[(table.domain[train] == "target") & (table.labels[train] == label)]
            if len(own) < self.labelled:
                text = (
                    f"{self.labelled} rows of each class are more than class {table.classes[label]} of the target has"
                )
                raise DataError(Problem("data.labelled", f"{text} in train: {len(own)}"))
            known[np.random.default_rng([seed, label]).permutation(own)[: self.labelled]] = True
        known[parts.test] = True
        return replace(table, known=known)


def _within(problem: Problem, domain: str) -> Problem:
    """The problem of a reader under the key that its node has here."""
    key = problem.key
    if key == "data" or key.startswith("data."):
        key = f"data.{domain}{key.removeprefix('data')}"
    return Problem(key, problem.text, problem.where)
