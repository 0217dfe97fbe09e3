"""What is left of a trial when its process has ended: its own `run.json`, completed where it could not finish it."""

from __future__ import annotations

from typing import Any

from tune.run_dir import write_json
from tune.train.sweep import ledger
from tune.train.sweep.leaderboard import Row
from tune.train.sweep.plan import fill
from tune.train.sweep.processes import Ended


def settle(row: Row, ended: Ended | None, is_stopping: bool) -> None:
    """Read what the trial wrote, write how it ended where it could not, and fill the row.

    What it wrote itself stands: a trial that is done stays done, however its process ended afterwards.

    Args:
        row: the trial; its `run_dir` exists.
        ended: how its process ended; None when it was killed together with the sweep.
        is_stopping: the sweep was told to stop, so that its trials were too.
    """
    assert row.run_dir is not None
    record = ledger.read_record(row.run_dir) or {"status": "running"}
    status, cause = _verdict(record, ended, is_stopping)
    facts: dict[str, Any] = {"status": status, "cause": cause, "ledger_key": row.key}
    if ended is not None and record.get("seconds") is None:
        facts["seconds"] = round(ended.seconds, 3)
    if ended is not None and record.get("exit_code") is None:
        facts["exit_code"] = ended.code
    if any(record.get(name) != value for name, value in facts.items()):
        write_json(row.run_dir / "run.json", {**record, **facts})
    fill(row, row.run_dir)


def has_ended(row: Row) -> bool:
    """Whether a trial itself wrote how it ended."""
    assert row.run_dir is not None
    record = ledger.read_record(row.run_dir)
    return record is not None and record["status"] in ("done", "failed", "diverged")


def _verdict(record: dict[str, Any], ended: Ended | None, is_stopping: bool) -> tuple[str, str]:
    """Status and cause."""
    written, cause = record["status"], record.get("cause") or ""
    if written == "done":
        return written, cause
    if ended is not None and ended.timed_out:  # what it wrote then is only how it took the SIGTERM
        return "failed", ended.cause
    if written in ("failed", "diverged"):
        return written, cause or (ended.cause if ended is not None else "")
    if ended is None or is_stopping:
        return "interrupted", "stopped with the sweep"
    return ("interrupted", cause or ended.cause) if written == "interrupted" else ("failed", ended.cause)
