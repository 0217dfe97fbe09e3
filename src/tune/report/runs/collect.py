"""All runs and sweeps below an output folder, or one of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tune.errors import ConfigError, Problem
from tune.report.commands import REPEATS, key_of, masked
from tune.run_dir import is_alive, read_json, run_id

DEAD = "dead"
"""A run that says "running" while its process is gone: it was killed."""
UNREADABLE = "unreadable"
"""A run whose run.json is no JSON object with a status: somebody else wrote it."""

RESULTS = "outputs"
"""Folder of all results, unless another is named."""


@dataclass(frozen=True)
class Entry:
    """A run folder, as its run.json tells it.

    Args:
        run_dir: the folder.
        record: run.json.
        written: when that was written last, in seconds of the clock: when the run ended, or while it runs began.
    """

    run_dir: Path
    record: dict[str, Any]
    written: float

    @property
    def id(self) -> str:
        """Its short name."""
        return run_id(self.run_dir)

    @property
    def status(self) -> str:
        """As in run.json, or dead, or unreadable."""
        status = self.record.get("status", UNREADABLE)
        return DEAD if status == "running" and "pid" in self.record and not is_alive(self.record) else status

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.record.get("name", "")

    @property
    def overrides(self) -> list[str]:
        """What was typed; of an ensemble how it decides and for how many."""
        if together := self.record.get("ensemble"):
            return [f"{together['how']} of {len(together['members'])}"]
        return self.record.get("overrides", [])

    @property
    def objective(self) -> str:
        """The metric that chose the epoch; of what has none of its own, as an ensemble, accuracy."""
        return self.record.get("objective", "val/accuracy")

    @property
    def metrics(self) -> dict[str, float | None]:
        """What was measured; None stands for NaN."""
        return self.record.get("metrics") or {}


@dataclass(frozen=True)
class Trial:
    """A point of a sweep's grid.

    Args:
        number: 1 … n.
        overrides: as expanded for it.
        entry: its run, in this sweep or, where that had it already, in another; None before it starts.
    """

    number: int
    overrides: list[str]
    entry: Entry | None

    @property
    def status(self) -> str:
        """That of its run, or missing."""
        return "missing" if self.entry is None else self.entry.status

    @property
    def record(self) -> dict[str, Any]:
        """run.json; empty while there is none."""
        return {} if self.entry is None else self.entry.record

    @property
    def words(self) -> list[str]:
        """The words that made it, without secrets."""
        return [masked(word) for word in self.overrides]

    def metric(self, name: str) -> float | None:
        """A metric of a finished trial."""
        return self.entry.metrics.get(name) if self.entry is not None and self.status == "done" else None

    def value(self, key: str) -> str:
        """Of a key in its words; empty where it is not there."""
        return next((word.partition("=")[2] for word in self.words if key_of(word) == key), "")


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder.

    Args:
        folder: `sweep-<hex>`.
        about: sweep.json.
        began: when that was written: when the command was given last.
        trials: every point of the grid.
    """

    folder: Path
    about: dict[str, Any]
    began: float
    trials: list[Trial]

    @property
    def id(self) -> str:
        """Its short name."""
        return self.folder.name.removeprefix("sweep-")

    @property
    def objective(self) -> str:
        """The metric that its trials are compared by."""
        return self.about["objective"]

    @property
    def maximize(self) -> bool:
        """Whether more of it is better."""
        return self.about["maximize"]

    def best(self) -> tuple[float, list[int]] | None:
        """The best value of the objective and the numbers of all trials that have it; None before one is done."""
        values = {trial.number: trial.metric(self.objective) for trial in self.trials}
        known = [value for value in values.values() if value is not None]
        if not known:
            return None
        best = max(known) if self.maximize else min(known)
        return best, [number for number, value in values.items() if value == best]

    @cached_property
    def keys(self) -> list[str]:
        """Keys with several values, but those that tell repetitions of a trial apart."""
        every = dict.fromkeys(key_of(word) for trial in self.trials for word in trial.words)
        several = [key for key in every if len({trial.value(key) for trial in self.trials}) > 1]
        return [key for key in several if key not in REPEATS]

    def words(self, trial: Trial) -> str:
        """What a trial has of the keys with several values, without secrets."""
        return " ".join(word for word in trial.words if key_of(word) in self.keys)

    @property
    def written(self) -> float:
        """When it was begun last, or a trial of its own ended last."""
        own = [
            trial.entry.written for trial in self.trials if trial.entry and trial.entry.run_dir.parent == self.folder
        ]
        return max([self.began, *own])

    @property
    def seconds(self) -> float:
        """What its commands took."""
        return time_spent(self.folder)

    def counts(self) -> dict[str, int]:
        """How many trials have each status."""
        return dict(Counter(trial.status for trial in self.trials))


def time_spent(folder: Path) -> float:
    """Seconds that the commands of a sweep took, so far as they came to an end; 0 before there is one."""
    first, last = folder / "sweep.json", folder / "summary.csv"  # that a command writes
    if not first.is_file():
        return 0.0
    now = last.stat().st_mtime - first.stat().st_mtime if last.is_file() else 0.0
    return read_json(first).get("seconds", 0.0) + max(0.0, now)


def collect(output: Path) -> tuple[list[Entry], list[Sweep]]:
    """Runs of their own (chains and ensembles too), and sweeps; each in the order they were written, newest last.

    Raises:
        ConfigError: if there is no such folder, unless it is the one in which the first run will make it.
    """
    if not output.is_dir():
        if output == Path(RESULTS):
            return [], []
        raise ConfigError(Problem(str(output), "there is no such folder of results; --output names another"))
    entries, sweeps = [], []
    for name in _folders(output):
        more, found = _in_name(name)
        entries += more
        sweeps += found
    return sorted(entries, key=lambda each: each.written), sorted(sweeps, key=lambda each: each.written)


def find_sweep(sweep: str, output: Path) -> Sweep | None:
    """A sweep by its folder, the start of its id, or "latest"; None if nothing is called so.

    Raises:
        ConfigError: if several begin so.
    """
    direct = Path(sweep)
    if sweep and (direct / "sweep.json").is_file():
        return read_sweep(direct)
    folders = sorted(path.parent for path in output.glob("*/sweep-*/sweep.json"))
    if sweep == "latest":
        found = sorted(folders, key=lambda path: (path / "sweep.json").stat().st_mtime)[-1:]
    else:
        word = sweep.removeprefix("sweep-")
        found = [path for path in folders if word and path.name.startswith(f"sweep-{word}")]
    if len(found) > 1:
        names = ", ".join(path.name.removeprefix("sweep-") for path in found[:5])
        raise ConfigError(Problem(sweep, f"{len(found)} sweeps begin so: {names}"))
    return read_sweep(found[0]) if found else None


def find_latest(output: Path) -> Path | None:
    """The folder of the run or the sweep that was heard of last; None while there is neither."""
    files = [path for name in ("sweep.json", "summary.csv", "run.json") for path in output.glob(f"*/*/{name}")]
    return max(files, key=lambda path: path.stat().st_mtime).parent if files else None


def read_sweep(folder: Path) -> Sweep:
    """A sweep, with what it took over from others of its experiment."""
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    return next(sweep for sweep in _in_name(folder.parent)[1] if sweep.folder == folder)


def read_entry(run_dir: Path) -> Entry | None:
    """A run; None for a folder without run.json."""
    path = run_dir / "run.json"
    try:
        with path.open("rb") as file:
            text, written = file.read(), os.fstat(file.fileno()).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        record = json.loads(text)
    except ValueError:
        record = {}
    return Entry(run_dir, record if isinstance(record, dict) and "status" in record else {}, written)


def _in_name(name: Path) -> tuple[list[Entry], list[Sweep]]:
    """What stands in the folder of one experiment."""
    entries: list[Entry] = []
    of_sweep: dict[Path, dict[int, Entry]] = {}
    for folder in _folders(name):
        if (folder / "sweep.json").is_file():
            inside = {sub.name: entry for sub in _folders(folder) if (entry := read_entry(sub))}
            of_sweep[folder] = {int(sub): entry for sub, entry in inside.items() if sub.isdigit()}
            entries += [entry for sub, entry in inside.items() if sub.startswith("ensemble")]
        elif entry := read_entry(folder):
            entries.append(entry)
    done: dict[str, Entry] = {}
    for entry in (entry for inside in of_sweep.values() for entry in inside.values()):
        if entry.record.get("status") == "done" and "ledger_key" in entry.record:
            done.setdefault(entry.record["ledger_key"], entry)
    return entries, [_sweep(folder, inside, done) for folder, inside in of_sweep.items()]


def _sweep(folder: Path, inside: dict[int, Entry], done: dict[str, Entry]) -> Sweep:
    """A sweep, its trials settled as its driver settles them.

    Args:
        folder: of the sweep.
        inside: the runs in it, by number.
        done: finished trials of the experiment, by their key.
    """
    path, trials = folder / "sweep.json", []
    about = read_json(path)
    begun = {key: entry for entry in inside.values() if (key := entry.record.get("ledger_key"))}
    for number, trial in enumerate(about["trials"], start=1):
        key, own = trial["ledger_key"], inside.get(number)
        if own is None or own.record.get("ledger_key") != key or own.record["status"] != "done":
            own = done.get(key) or begun.get(key)
        trials.append(Trial(number, trial["overrides"], own))
    return Sweep(folder, about, path.stat().st_mtime, trials)


def _folders(path: Path) -> Iterator[Path]:
    with os.scandir(path) as found:
        names = sorted(each.name for each in found if each.is_dir())
    return (path / name for name in names)
