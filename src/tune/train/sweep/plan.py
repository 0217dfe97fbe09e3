"""Which trials of a sweep are done, failed or missing, read from what is on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune.errors import ConfigError, Problem
from tune.report.sweep import chosen
from tune.run_dir import is_alive
from tune.train.sweep import ledger
from tune.train.sweep.leaderboard import Row

_ORPHAN_S = 5.0  # how long trials of a killed driver may take to end


@dataclass
class Plan:
    """What to do for a sweep.

    Args:
        missing: trials to run, in order.
        copies: key → trials equal to one that is missing; they take its result.
    """

    missing: list[Row] = field(default_factory=list)
    copies: dict[str, list[Row]] = field(default_factory=dict)


def make_plan(sweep_dir: Path, rows: list[Row], retry_failed: bool) -> Plan:
    """Fill the rows that need no run; folders of earlier attempts at the others are moved aside.

    Raises:
        ConfigError: if the process of a trial still runs.
    """
    for row in rows:
        _look_at_own_folder(row, sweep_dir / str(row.number), retry_failed)
    done = ledger.finished(sweep_dir.parent)
    failed = {row.key: row.run_dir for row in rows if row.run_dir is not None and row.status != "done"}
    plan = Plan()
    for row in rows:
        if row.status != "done" and row.key in done:
            fill(row, done[row.key])
        elif row.status == "missing" and (run_dir := failed.get(row.key)) is not None:
            fill(row, run_dir)
        elif row.status == "missing" and row.key in plan.copies:
            plan.copies[row.key].append(row)
        elif row.status == "missing":
            plan.copies[row.key] = []
            plan.missing.append(row)
    return plan


def fill(row: Row, run_dir: Path) -> None:
    """Take a row's result from the `run.json` of a run folder."""
    record = ledger.read_record(run_dir)
    assert record is not None
    row.run_dir = run_dir
    row.status = record["status"]
    row.cause = record.get("cause") or ""
    row.seconds = record.get("seconds")
    row.metrics = record.get("metrics") or {}
    row.auto = chosen(record)


def _look_at_own_folder(row: Row, run_dir: Path, retry_failed: bool) -> None:
    if not run_dir.exists():
        return
    record = ledger.read_record(run_dir)
    if record is not None:
        if record["status"] == "running" and _still_runs(record):
            text = f"trial {row.number} still runs as process {record['pid']} on {record['host']}. End it first."
            raise ConfigError(Problem(str(run_dir), text))
        has_failed = record["status"] in ("failed", "diverged")
        if record.get("ledger_key") == row.key and (record["status"] == "done" or (has_failed and not retry_failed)):
            fill(row, run_dir)
            return
    ledger.set_aside(run_dir)


def _still_runs(record: dict[str, Any]) -> bool:
    """Whether the process of a trial lives. That of a driver killed just now gets a moment to end."""
    until = time.monotonic() + _ORPHAN_S
    while "pid" in record and is_alive(record):
        if time.monotonic() > until:
            return True
        time.sleep(0.05)
    return False
