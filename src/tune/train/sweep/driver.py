"""The driver of a sweep: starts the trials that are missing, settles how each ended, prints the table.

It learns results only from the trials' `run.json`, so that a sweep that was killed and continued ends with the same
table as one that was not.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune.run_dir import atomic_write, write_json
from tune.train.sweep import ledger
from tune.train.sweep.leaderboard import Row, label, summary, table
from tune.train.sweep.plan import fill, make_plan
from tune.train.sweep.processes import Ended, Processes
from tune.train.sweep.settle import settle
from tune.train.sweep.shares import gpu_env, threads_each, visible_gpus


@dataclass(frozen=True)
class Trial:
    """One point of the grid.

    Args:
        config: composed and checked.
        overrides: those that led to it.
        key: under which its result is found again (`ledger.ledger_key`).
        choices: option chosen in each group, for the trial to note.
    """

    config: dict[str, Any]
    overrides: list[str]
    key: str
    choices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SweepResult:
    """All trials of a sweep, whether run now or before. `exit_code`: 0, 3 (some not done), 130 or 143 (stopped)."""

    sweep_dir: Path
    rows: list[Row]
    seconds: float
    exit_code: int

    @property
    def status(self) -> str:
        """done, failed (some trials are not done) or interrupted."""
        return {0: "done", 3: "failed"}.get(self.exit_code, "interrupted")

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        trials = [
            {
                "run_dir": None if row.run_dir is None else str(row.run_dir),
                "status": row.status,
                "cause": row.cause,
                "overrides": row.overrides,
                "metrics": row.metrics or {},
            }
            for row in self.rows
        ]
        head = {"sweep_dir": str(self.sweep_dir), "status": self.status, "seconds": round(self.seconds, 3)}
        return {**head, "fused_groups": 0, "trials": trials}


@dataclass(frozen=True)
class Options:
    """How a sweep runs; none of these changes a trial's numbers.

    Args:
        jobs: trials at once.
        time_limit_s: seconds after which a trial is ended and counts as failed; None for no limit.
        retry_failed: run again what failed or diverged earlier.
        fail_fast: after the first failure stop what runs and start nothing more.
        grace_s: seconds between asking a trial to end and killing it.
        show: metrics beside the objective in the table.
    """

    jobs: int = 1
    time_limit_s: float | None = None
    retry_failed: bool = False
    fail_fast: bool = False
    grace_s: float = 15.0
    show: tuple[str, ...] = ("test/accuracy", "test/auroc")


def run_sweep(
    trials: list[Trial],
    command: list[str],
    *,
    output: Path,
    name: str,
    objective: str,
    maximize: bool,
    options: Options,
    say: Callable[[str], None],
    answer: Callable[[str], None],
    target: str = "tune.train.experiment:run_trial",
    preload: list[str],
) -> SweepResult:
    """Run what is missing of a sweep, and report all of it.

    The trial function `target` is called in a process of its own with one dict: `config`, `overrides`, `choices`,
    `run_dir` (a folder that exists and holds `run.log`, to which its output goes) and `record` (what its `run.json`
    must hold from the first write on). It returns its exit code.

    Args:
        trials: the grid, in order.
        command: the overrides as typed; they name the sweep's folder.
        output: folder of all results.
        name: of the experiment.
        objective: metric that the table is sorted by, best first.
        maximize: whether more of it is better.
        options: how to run.
        say: takes each line of progress.
        answer: takes each line of the result.
        target: the trial function as "module:function".
        preload: modules to import once for all trials.

    Raises:
        ConfigError: if another process runs this sweep.
        RunError: if no trial can be started at all.
    """
    sweep_dir = ledger.sweep_dir_of(output, name, command)
    rows = [Row(number, t.overrides, t.config, t.key, t.choices) for number, t in enumerate(trials, start=1)]
    with ledger.locked(sweep_dir):
        sweep = _Sweep(sweep_dir, rows, objective, options, say)
        about = {"command": command, "name": name, "objective": objective, "maximize": maximize}
        grid = [{"overrides": trial.overrides, "ledger_key": trial.key} for trial in trials]
        write_json(sweep_dir / "sweep.json", {**about, "trials": grid})
        code = sweep.run(Processes(target, preload, threads_each(options.jobs), sweep_dir / "server.log"))
        result = SweepResult(sweep_dir, rows, time.monotonic() - sweep.began, code)
        atomic_write(sweep_dir / "summary.csv", summary(rows, objective, maximize))
        for line in sweep.closing_lines(code):
            answer(line)
        for line in table(rows, objective, maximize, list(options.show)):
            answer(line)
    return result


class _Sweep:
    """The trials of one sweep while it runs."""

    def __init__(
        self, sweep_dir: Path, rows: list[Row], objective: str, options: Options, say: Callable[[str], None]
    ) -> None:
        self.sweep_dir = sweep_dir
        self.rows = rows
        self.objective = objective
        self.options = options
        self.say = say
        self.began = time.monotonic()
        self.plan = make_plan(sweep_dir, rows, options.retry_failed)
        self.free = list(range(options.jobs))
        self.slots: dict[int, int] = {}  # number of a running trial → its slot
        self.gpus = visible_gpus()
        self.is_stopping = False

    def run(self, processes: Processes) -> int:
        """Run what is missing; returns the exit code of the whole sweep."""
        self.say(self._first_line())
        try:
            with _sigterm_as_interrupt(), processes:
                try:
                    self._work(processes)
                except KeyboardInterrupt as interrupt:
                    code = 143 if isinstance(interrupt, _Terminated) else 130
                    self.say(f"stopping {len(processes.running)} running to save and end; a second Ctrl-C kills them")
                    self._stop(processes)
                    return code
        except KeyboardInterrupt:  # the second: leaving the block above has killed them
            return 130
        finally:
            for row in self.rows:
                if row.status == "running":
                    settle(row, None, is_stopping=True)
        return 0 if all(row.status == "done" for row in self.rows) else 3

    def closing_lines(self, code: int) -> list[str]:
        """Counts, what to do next, and each trial that is not done with its cause and log."""
        counts = [
            f"{number} {word}"
            for word, number in (
                ("done", self._count("done")),
                ("failed", self._count("failed") + self._count("diverged")),
                ("interrupted", self._count("interrupted")),
                ("not started", self._count("missing")),
            )
            if number or word in ("done", "failed")
        ]
        first = f"{', '.join(counts)} in {time.monotonic() - self.began:.0f} s"
        failed = [row for row in self.rows if row.status in ("failed", "diverged")]
        if code:
            first += f" (exit {code}).   The same command runs only what is missing"
            if failed:
                which = ", ".join(str(row.number) for row in failed)
                first += f"; --retry-failed includes trial{'s' if len(failed) > 1 else ''} {which}"
        return [first, *(self._failure(row) for row in failed)]

    def _work(self, processes: Processes) -> None:
        waiting = list(self.plan.missing)
        while (waiting and not self.is_stopping) or processes.running:
            while waiting and self.free and not self.is_stopping:
                self._start(waiting.pop(0), processes)
            for ended in processes.wait():
                self._ended(ended)
            if self.is_stopping and processes.running:
                self._stop(processes)

    def _start(self, row: Row, processes: Processes) -> None:
        run_dir = self.sweep_dir / str(row.number)
        run_dir.mkdir()
        slot = self.slots[row.number] = self.free.pop(0)
        row.run_dir, row.status = run_dir, "running"
        record = {"ledger_key": row.key, "sweep": self.sweep_dir.name, "number": row.number}
        asked = {"config": row.config, "overrides": row.overrides, "choices": row.choices}
        job = {**asked, "run_dir": str(run_dir), "record": record}
        env = gpu_env(self.gpus, slot, row.config)
        limits = {"limit_s": self.options.time_limit_s, "grace_s": self.options.grace_s}
        processes.start(row.number, job, run_dir / "run.log", env=env, **limits)

    def _stop(self, processes: Processes) -> None:
        self.is_stopping = True
        processes.stop(self.options.grace_s)
        while processes.running:
            for ended in processes.wait():
                self._ended(ended)

    def _ended(self, ended: Ended) -> None:
        row = self.rows[ended.number - 1]
        self.free.append(self.slots.pop(row.number))
        settle(row, ended, self.is_stopping)
        for copy in self.plan.copies[row.key]:
            assert row.run_dir is not None
            fill(copy, row.run_dir)
        place = f"trial {row.number}/{len(self.rows)}"
        if row.status == "done":
            value = row.metric(self.objective)
            result = "–" if value is None else f"{value:.3f}"
            what = label(row.overrides, self.rows)
            self.say(f"{place} done  {self.objective} {result}  {row.seconds:.0f} s  {what}".rstrip())
        else:
            self.say(self._failure(row))
            self.is_stopping |= self.options.fail_fast

    def _first_line(self) -> str:
        counts = [f"{len(self.plan.missing)} to run, {self.options.jobs} at a time"]
        if number := self._count("done"):
            counts.append(f"{number} done before")
        if number := self._count("failed") + self._count("diverged"):
            counts.append(f"{number} failed before (--retry-failed runs them again)")
        if number := sum(len(rows) for rows in self.plan.copies.values()):
            counts.append(f"{number} equal to another")
        return f"{len(self.rows)} trials: {', '.join(counts)}   {self.sweep_dir}"

    def _failure(self, row: Row) -> str:
        what = f" ({text})" if (text := label(row.overrides, self.rows)) else ""
        cause = f": {row.cause}" if row.cause else ""
        log = "" if row.run_dir is None else f"   log: {row.run_dir / 'run.log'}"
        return f"trial {row.number}/{len(self.rows)} {row.status}{cause}{what}{log}"

    def _count(self, status: str) -> int:
        return sum(row.status == status for row in self.rows)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, taken like Ctrl-C."""


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
