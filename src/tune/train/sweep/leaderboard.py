"""The table at the end of a sweep and `summary.csv`: repetitions of a trial share a line."""

from __future__ import annotations

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune.report.commands import is_repeat
from tune.report.sweep import AUTO, found_by_auto
from tune.train.sweep.ledger import canonical, deciding


@dataclass
class Row:
    """One trial as the sweep sees it. `status` is that of its run.json, or "missing" while it has none.

    Args:
        number: 1 … n, its place in the grid and the name of its folder.
        overrides: as expanded for it.
        config: the composed config.
        key: of the ledger.
        choices: option chosen in each group.
        run_dir: its folder, or that of the finished trial it stands for; None while there is neither.
        auto: what the trial chose for keys that were left to it, as `report.sweep.chosen` reads it.
    """

    number: int
    overrides: list[str]
    config: dict[str, Any]
    key: str
    choices: dict[str, str]
    run_dir: Path | None = None
    status: str = "missing"
    cause: str = ""
    seconds: float | None = None
    metrics: dict[str, float | None] | None = None
    auto: dict[str, str] = field(default_factory=dict)

    def metric(self, name: str) -> float | None:
        """A metric of a finished trial; None for one that failed, never measured it, or measured NaN."""
        return self.metrics.get(name) if self.status == "done" and self.metrics else None


@dataclass(frozen=True)
class Line:
    """Trials that differ only in their seeds, fold or draw of rows, and their mean on each metric."""

    rows: list[Row]
    label: str

    @property
    def told(self) -> str:
        """The label, with what `auto` chose; the trials of a line may have chosen differently."""
        words = self.label.split()
        for key in AUTO:
            if found := found_by_auto(key, (row.auto for row in self.rows)):
                words = [each for each in words if each != f"{key}=auto"] + [f"{key}={found}"]
        return " ".join(words)

    def values(self, metric: str) -> list[float]:
        """Of the trials that have one."""
        return [value for row in self.rows if (value := row.metric(metric)) is not None]

    def text(self, metric: str) -> str:
        """Mean ± standard deviation (of a sample: divided by n - 1), or the one value, or "–"."""
        values = self.values(metric)
        if not values:
            return "–"
        mean = f"{statistics.fmean(values):.3f}"
        return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def label(overrides: list[str], rows: list[Row]) -> str:
    """The overrides that not all trials share."""
    return " ".join(o for o in overrides if not all(o in row.overrides for row in rows))


def ranked(rows: list[Row], objective: str, maximize: bool) -> list[Line]:
    """Lines of the table, best mean first; those without a finished trial last, in the order of the grid."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_without_seeds(row.config)].append(row)
    shared = set(rows[0].overrides).intersection(*(row.overrides for row in rows)) if rows else set()
    lines = [Line(group, _label_without_seeds(group[0], shared)) for group in groups.values()]
    sign = -1 if maximize else 1

    def place(line: Line) -> tuple[bool, float, int]:
        values = line.values(objective)
        return (not values, sign * statistics.fmean(values) if values else 0.0, line.rows[0].number)

    return sorted(lines, key=place)


def table(
    rows: list[Row],
    objective: str,
    maximize: bool,
    show: list[str],
    what: str = "trial",
    name: Callable[[Row], str] = lambda row: str(row.number),
) -> list[str]:
    """Lines of text: a header, which names a tie of the first, then one line per group of trials, aligned.

    Args:
        rows: the trials.
        objective: metric that the lines are sorted by.
        maximize: whether more of it is better.
        show: other metrics; those that nobody measured are left out.
        what: heads the column of names.
        name: of a trial.
    """
    metrics = [objective, *(other for other in show if other != objective and _is_measured(other, rows))]
    lines = ranked(rows, objective, maximize)
    ties = _ties(lines, objective)
    cells = [[*metrics, "n", what, f"(a tie of the first {ties} lines)" if ties > 1 else ""]]
    for line in lines:
        names = ",".join(map(name, line.rows))
        cells.append([*map(line.text, metrics), str(len(line.values(objective))), names, line.told])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def summary(rows: list[Row], objective: str, maximize: bool) -> str:
    """`summary.csv`: one line per trial, best group first, with the mean and deviation of its group."""
    metrics = sorted({name for row in rows if row.status == "done" for name in row.metrics or {}})
    about = ["rank", "number", "status", "cause", "seconds", "overrides", "auto"]
    group = [f"mean {objective}", f"sd {objective}", f"n {objective}"]
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write([*about, *group, *metrics, "run_dir"])
    for rank, line in enumerate(ranked(rows, objective, maximize), start=1):
        values = line.values(objective)
        mean = statistics.fmean(values) if values else None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        for row in line.rows:
            seconds = None if row.seconds is None else round(row.seconds, 3)
            auto = " ".join(f"{key}={value}" for key, value in row.auto.items())
            what = [rank, row.number, row.status, row.cause, seconds, " ".join(row.overrides), auto]
            write([*what, mean, deviation, len(values), *(row.metric(name) for name in metrics), row.run_dir])
    return text.getvalue()


def _ties(lines: list[Line], objective: str) -> int:
    """How many lines share the best mean."""
    means = [statistics.fmean(values) for line in lines if (values := line.values(objective))]
    return means.count(means[0]) if means else 0


def _is_measured(metric: str, rows: list[Row]) -> bool:
    return any(row.metric(metric) is not None for row in rows)


def _without_seeds(config: dict[str, Any]) -> str:
    """What trials of one line share: all but what tells repetitions apart."""
    kept = {key: value for key, value in deciding(config).items() if key not in ("seed", "ensemble")}
    data = kept.get("data")
    if isinstance(data, dict):
        kept["data"] = data = {key: value for key, value in data.items() if key != "bootstrap"}
        if isinstance(data.get("split"), dict):
            data["split"] = {key: value for key, value in data["split"].items() if key not in ("seed", "fold")}
    return canonical(kept)


def _label_without_seeds(row: Row, shared: set[str]) -> str:
    return " ".join(word for word in row.overrides if not is_repeat(word) and word not in shared)
