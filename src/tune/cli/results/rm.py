"""`tune rm`: remove runs and sweeps, or their checkpoints alone."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tune.cli.arguments import parser_of
from tune.cli.results.text import megabytes
from tune.errors import ConfigError, Problem
from tune.report.runs.collect import Entry, Sweep, find_sweep, read_entry
from tune.report.runs.files import checkpoints, needs, num_bytes
from tune.run_dir import find_run, run_id, shown
from tune.train.sweep.ledger import is_held


@dataclass(frozen=True)
class _Target:
    """What a word names: a run or a sweep.

    Args:
        word: as typed.
        folder: its folder.
        entries: the runs in it.
        is_sweep: whether it is a sweep.
        is_held: whether it is a sweep, or belongs to one, that a process works on.
    """

    word: str
    folder: Path
    entries: list[Entry]
    is_sweep: bool
    is_held: bool

    @property
    def runs(self) -> list[Entry]:
        """Those that a process works on."""
        return [entry for entry in self.entries if entry.status == "running"]


def rm(words: list[str]) -> int:
    """`tune rm RUN …`. Returns the exit code."""
    parser = parser_of("rm", "Remove runs and sweeps with all their files, or their checkpoints alone.", "output")
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="runs: folder, start of its id, SWEEP#NUMBER, latest; or sweeps"
    )
    parser.add_argument("--checkpoints", action="store_true", help="only what tune resume reads; the results stay")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="also what is needed, or running")
    asked = parser.parse_args(words)
    output = Path(asked.output)
    targets = list({found.folder.resolve(): found for word in asked.runs if (found := _target(word, output))}.values())
    if not asked.force:
        problems = list(_unfinished(targets) if asked.checkpoints else _missed(targets, output))
        if problems:
            raise ConfigError(*problems)
    paths = [
        path for target in targets for path in (checkpoints(target.folder) if asked.checkpoints else [target.folder])
    ]
    size = num_bytes(paths)
    what = "the checkpoints of" if asked.checkpoints else ""
    names = f"{what} {', '.join(shown(target.folder) for target in targets)}".strip()
    if paths and not asked.yes and not _is_agreed(f"{names}: {megabytes(size)}"):
        print("nothing was removed")
        return 0
    for path in paths:
        _remove(path)
    print(f"removed {names}: {megabytes(size)}")
    if asked.json:
        print(json.dumps({"removed": [str(path) for path in paths], "bytes": size}))
    return 0


def _target(word: str, output: Path) -> _Target:
    """The run or the sweep of a name.

    Raises:
        ConfigError: if there is neither, or both.
    """
    sweep: Sweep | None = None if word == "latest" else find_sweep(word, output)
    try:
        run_dir = None if (Path(word) / "sweep.json").is_file() else find_run(word, output)
    except ConfigError:
        if sweep is None:
            raise
        run_dir = None
    if sweep and run_dir:
        text = f"names a run and a sweep: {shown(run_dir)} and {shown(sweep.folder)}. Give the folder"
        raise ConfigError(Problem(word, text, "command line"))
    if sweep:
        own = [each.entry for each in sweep.trials if each.entry and each.entry.run_dir.parent == sweep.folder]
        return _Target(word, sweep.folder, own, True, is_held(sweep.folder))
    assert run_dir is not None
    entry, folder = read_entry(run_dir), run_dir.absolute().parent
    return _Target(word, run_dir, [entry] if entry else [], False, folder.name.startswith("sweep-") and is_held(folder))


def _missed(targets: list[_Target], output: Path) -> Iterator[Problem]:
    """Why they cannot go."""
    gone = [target.folder.resolve() for target in targets]
    for target in targets:
        yield from _running(target)
        if target.folder.parent.name.startswith("chain-"):
            yield Problem(target.word, f"is part of a chain: tune rm {run_id(target.folder)} removes all of it")
    told: set[tuple[str, Path]] = set()
    for need in needs(output) if output.is_dir() else []:
        if any(need.by.is_relative_to(folder) for folder in gone):
            continue
        for target in targets:
            if need.folder.is_relative_to(target.folder.resolve()) and (target.word, need.by) not in told:
                told.add((target.word, need.by))
                yield Problem(target.word, f"is needed: {need.text}. --force removes it all the same")


def _unfinished(targets: list[_Target]) -> Iterator[Problem]:
    """Why their checkpoints cannot go: trials are never resumed, runs that are not done may be."""
    for target in targets:
        yield from _running(target)
        for entry in target.entries:
            if not target.is_sweep and "ledger_key" not in entry.record and entry.status not in ("done", "running"):
                text = f"is {entry.status}, and tune resume needs its checkpoints. --force removes them all the same"
                yield Problem(target.word, text)


def _running(target: _Target) -> Iterator[Problem]:
    if target.is_held:
        yield Problem(target.word, "its sweep is running. End it first")
    for entry in target.runs if not target.is_held else []:
        yield Problem(
            target.word, f"{entry.id} runs as process {entry.record['pid']} on {entry.record['host']}. End it first"
        )


def _is_agreed(what: str) -> bool:
    """Ask on the terminal.

    Raises:
        ConfigError: if there is none.
    """
    if not sys.stdin.isatty():
        text = f"would remove {what}. There is no terminal here to ask on; --yes removes it unasked"
        raise ConfigError(Problem("rm", text))
    print(f"remove {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(path: Path) -> None:
    """Remove a file, or a folder: first what makes it a run or a sweep, so that a part of it is never taken for one."""
    if not path.is_dir():
        path.unlink()
        return
    for name in ("sweep.json", "run.json"):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()  # the folder of the experiment
