"""The driver of a sweep: starts the trials that are missing, settles how each ended, prints the table.

It learns results only from the trials' `run.json`, so that a sweep that was killed and continued ends with the same
table as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune.errors import RunError
from tune.report.runs.collect import time_spent
from tune.run_dir import atomic_write, write_json
from tune.talk import bar
from tune.train.sweep import data_size, inheritance, ledger
from tune.train.sweep.groups import Groups
from tune.train.sweep.keep import Keep
from tune.train.sweep.leaderboard import Row, summary, table
from tune.train.sweep.lines import closing_lines, failure, first_line, success
from tune.train.sweep.plan import fill, make_plan
from tune.train.sweep.processes import Ended, Processes, Terminated, sigterm_as_interrupt
from tune.train.sweep.settle import has_ended, settle
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
    """All trials of a sweep, whether run now or before. `exit_code`: 0, 3 (some not done), 130 or 143 (stopped).

    `fused_groups` counts those that trained as one now.
    """

    sweep_dir: Path
    rows: list[Row]
    seconds: float
    exit_code: int
    fused_groups: int = 0

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
        return {**head, "fused_groups": self.fused_groups, "trials": trials}


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
        keep: of which trials the weights stay, see `config.schema.Sweep`.
    """

    jobs: int = 1
    time_limit_s: float | None = None
    retry_failed: bool = False
    fail_fast: bool = False
    grace_s: float = 15.0
    show: tuple[str, ...] = ("test/accuracy", "test/auroc")
    keep: str = "all"


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
    last: Callable[[list[Row]], dict[str, Any] | None] = lambda rows: None,
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
        last: gives from the rows a job for one more call of `target`, when all trials have ended.

    Raises:
        ConfigError: if another process runs this sweep.
        RunError: if no trial can be started at all.
    """
    sweep_dir = ledger.sweep_dir_of(output, name, command)
    rows = [Row(number, t.overrides, t.config, t.key, t.choices) for number, t in enumerate(trials, start=1)]
    with ledger.locked(sweep_dir):
        sweep = _Sweep(sweep_dir, rows, objective, options, say)
        about = {"command": command, "name": name, "objective": objective, "maximize": maximize}
        about["seconds"] = time_spent(sweep_dir)  # before this command
        grid = [{"overrides": trial.overrides, "ledger_key": trial.key} for trial in trials]
        write_json(sweep_dir / "sweep.json", {**about, "trials": grid})
        code = sweep.run(Processes(target, preload, threads_each(options.jobs), sweep_dir / "server.log"), last)
        result = SweepResult(sweep_dir, rows, time.monotonic() - sweep.began, code, sweep.groups.trained)
        atomic_write(sweep_dir / "summary.csv", summary(rows, objective, maximize))
        told = closing_lines(rows, code, result.seconds) + table(rows, objective, maximize, list(options.show))
        for line in [*told, *data_size.lines(rows), *inheritance.lines(rows, sweep_dir)]:
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
        self.keep = Keep(options.keep, objective, sweep_dir, rows)
        self.groups = Groups(self.plan.missing, sweep_dir)
        self.slots: dict[int, int] = {}  # number of a running trial, or of the first of a group → its slot
        self.gpus = visible_gpus()
        self.is_stopping = False

    def run(self, processes: Processes, last: Callable[[list[Row]], dict[str, Any] | None]) -> int:
        """Run what is missing, then what is to come last; returns the exit code of the whole sweep."""
        self.say(first_line(self.rows, self.plan, self.groups, self.options.jobs, self.sweep_dir))
        try:
            with sigterm_as_interrupt(), processes:
                try:
                    with bar("trials", len(self.rows)) as self.tick:
                        self._work(processes)
                    if job := last(self.rows):
                        self._finish(job, processes)
                except KeyboardInterrupt as interrupt:
                    code = 143 if isinstance(interrupt, Terminated) else 130
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

    def _work(self, processes: Processes) -> None:
        while (self.groups.waiting and not self.is_stopping) or processes.running:
            while self.groups.waiting and self.free and not self.is_stopping:
                self._start(self.groups.waiting.pop(0), processes)
            for ended in processes.wait():
                self._ended(ended)
            if self.is_stopping and processes.running:
                self._stop(processes)

    def _finish(self, job: dict[str, Any], processes: Processes) -> None:
        log = self.sweep_dir / "last.log"
        try:
            processes.start(_LAST, job, log, env={}, limit_s=None, grace_s=self.options.grace_s)
            while processes.running:
                for ended in processes.wait():
                    if ended.code == 0:
                        log.unlink(missing_ok=True)
                    else:
                        self.say(f"warning: the last step failed: {ended.cause}   log: {log}")
        except RunError as error:  # the trials are done all the same
            self.say(f"warning: the last step failed: {error}")

    def _start(self, rows: list[Row], processes: Processes) -> None:
        """Start a trial, or some that train as one."""
        first, jobs = rows[0], []
        fused = self.groups.started(rows)
        slot = self.slots[first.number] = self.free.pop(0)
        for row in rows:
            row.run_dir, row.status = self.sweep_dir / str(row.number), "running"
            row.run_dir.mkdir()
            record = {"ledger_key": row.key, "sweep": self.sweep_dir.name, "number": row.number, **fused}
            asked = {"config": row.config, "overrides": row.overrides, "choices": row.choices}
            jobs.append({**asked, "run_dir": str(row.run_dir), "record": record})
        job = jobs[0] if len(rows) == 1 else {"together": jobs}
        limit = self.options.time_limit_s
        processes.start(
            first.number,
            job,
            self.groups.log_of(rows),
            env={**gpu_env(self.gpus, slot, first.config), "TUNE_JOBS": str(self.options.jobs)},
            limit_s=None if limit is None else limit * len(rows),
            grace_s=self.options.grace_s,
        )

    def _stop(self, processes: Processes) -> None:
        self.is_stopping = True
        processes.stop(self.options.grace_s)
        while processes.running:
            for ended in processes.wait():
                self._ended(ended)

    def _ended(self, ended: Ended) -> None:
        if ended.number == _LAST:
            return
        was_stopping = self.is_stopping
        self.free.append(self.slots.pop(ended.number))
        rows = self.groups.ended(ended.number)
        for row in rows:
            if len(rows) > 1 and not was_stopping and not has_ended(row):
                self.groups.alone(row)
                continue
            settle(row, ended, was_stopping)
            for copy in self.plan.copies[row.key]:
                assert row.run_dir is not None
                fill(copy, row.run_dir)
            self.keep.ended(row)
            self._tell(row, in_group=len(rows) > 1)
        if len(rows) > 1:
            self.say(self.groups.verdict(rows, ended))
        self.tick(sum(row.status not in ("missing", "running") for row in self.rows), len(self.rows))

    def _tell(self, row: Row, in_group: bool) -> None:
        if row.status != "done":
            self.say(failure(row, self.rows))
            self.is_stopping |= self.options.fail_fast
        elif not in_group:
            self.say(success(row, self.rows, self.objective))


_LAST = 0
"""Number under which what comes last runs; trials are counted from 1."""
