"""`tune top`: the trials of a sweep, or all runs of an experiment, best first."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from tune.cli.arguments import parser_of, whole
from tune.cli.ensemble import shown_metrics
from tune.cli.results.listed import counted
from tune.config.habits import nearest
from tune.errors import ConfigError, Problem
from tune.report.commands import is_repeat
from tune.report.runs.collect import Entry, Sweep, collect, find_sweep
from tune.report.sweep import chosen
from tune.run_dir import run_id, shown
from tune.talk import say
from tune.train.objective import is_maximized
from tune.train.sweep.leaderboard import Line, Row, ranked, table

_LINES = 20
_BESIDE = ("test_straight/accuracy", "test_straight/auroc")
"""What stands beside chains."""


def top(words: list[str]) -> int:
    """`tune top SWEEP|NAME [--by METRIC]`. Returns the exit code."""
    parser = parser_of("top", "Trials of a sweep, or all runs of an experiment, best first.", "output")
    parser.add_argument("sweep", help="folder or start of the id of a sweep, latest, or the name of an experiment")
    parser.add_argument("--by", metavar="METRIC", help="what is best (the objective of the sweep)")
    parser.add_argument("--lines", type=whole(0), default=_LINES, help=f"so many lines, 0 for all ({_LINES})")
    asked = parser.parse_args(words)
    what, where, objective, rows = _found(asked.sweep, Path(asked.output))
    by = _metric(asked.by, rows) if asked.by else objective
    if asked.json:
        lines = [_as_json(rank, line, by) for rank, line in enumerate(ranked(rows, by, is_maximized(by)), start=1)]
        print(json.dumps({what: asked.sweep, "folder": str(where), "by": by, "lines": lines}))
        return 0
    show = [objective, *shown_metrics(objective), *_BESIDE]
    names = ("trial", _number) if what == "sweep" else ("run", _id)
    lines = table(rows, by, is_maximized(by), show, *names)
    most = asked.lines + 1 if asked.lines else len(lines)
    for line in lines[:most]:
        print(line)
    more = f"   {len(lines) - most} more lines: --lines 0" if len(lines) > most else ""
    say(f"{counted(Counter(row.status for row in rows))}   {shown(where)}{more}")
    if by.startswith("test/"):
        say(f"note: what is chosen by {by} looks better than it is; choose without --by")
    return 0


def rows_of(sweep: Sweep) -> list[Row]:
    """The trials of a sweep as its own table has them."""
    return [_row(trial.number, trial.overrides, trial.entry) for trial in sweep.trials]


def _found(word: str, output: Path) -> tuple[str, Path, str, list[Row]]:
    """Whether a word names a sweep or an experiment, its folder, objective and rows.

    Raises:
        ConfigError: if it is neither.
    """
    if sweep := find_sweep(word, output):
        return "sweep", sweep.folder, sweep.objective, rows_of(sweep)
    entries, sweeps = collect(output)
    trials = {trial.entry.run_dir: trial.entry for sweep in sweeps for trial in sweep.trials if trial.entry}
    named = sorted([*entries, *trials.values()], key=lambda entry: entry.written)
    known = {entry.name for entry in named if entry.name}
    name = word.replace("/", "-")
    if name not in known:
        close = nearest(name, sorted(known)) or sorted(known)[:8]
        ids = [sweep.id for sweep in sweeps[-3:]]
        text = f"is no sweep and no experiment with runs in {output}/. Experiments: {', '.join(close) or 'none yet'}"
        raise ConfigError(Problem(word, f"{text}; last sweeps: {', '.join(ids) or 'none yet'}", "command line"))
    newest: dict[str, Entry] = {}  # a run that was given again stands once
    for entry in (entry for entry in named if entry.name == name):
        newest[json.dumps([entry.overrides, entry.record.get("data")])] = entry
    rows = [_row(number, entry.overrides, entry) for number, entry in enumerate(newest.values(), start=1)]
    return "name", output / name, list(newest.values())[-1].objective, rows


def _row(number: int, overrides: list[str], entry: Entry | None) -> Row:
    """A line's trials share their words, but for those that tell repetitions apart, and their data."""
    record = {} if entry is None else entry.record
    shared = {
        "words": sorted(word for word in overrides if not is_repeat(word)),
        "rows": record.get("data", {}).get("fingerprint"),
    }
    if entry is None:
        return Row(number, overrides, shared, "", {})
    facts = {"cause": record.get("cause") or "", "seconds": record.get("seconds"), "metrics": entry.metrics}
    facts["auto"] = chosen(record)
    return Row(number, overrides, shared, "", {}, entry.run_dir, entry.status, **facts)


def _metric(word: str, rows: list[Row]) -> str:
    """A metric that some row has.

    Raises:
        ConfigError: if none has it.
    """
    known = sorted({name for row in rows if row.status == "done" for name in row.metrics or {}})
    if word not in known:
        close = nearest(word, known) or known
        raise ConfigError(Problem("--by", f"{word} was not measured. Measured: {', '.join(close)}", "command line"))
    return word


def _as_json(rank: int, line: Line, by: str) -> dict[str, Any]:
    values = line.values(by)
    runs = [
        {
            "run": None if row.run_dir is None else run_id(row.run_dir),
            "run_dir": None if row.run_dir is None else str(row.run_dir),
            "status": row.status,
            "cause": row.cause,
            "seconds": row.seconds,
            "overrides": row.overrides,
            "metrics": row.metrics or {},
        }
        for row in line.rows
    ]
    mean = statistics.fmean(values) if values else None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"rank": rank, "label": line.label, "n": len(values), "mean": mean, "sd": deviation, "runs": runs}


def _number(row: Row) -> str:
    return str(row.number)


def _id(row: Row) -> str:
    return "" if row.run_dir is None else run_id(row.run_dir)
