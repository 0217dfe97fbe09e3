"""The files of runs that may go, how large they are, and who still needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tune.errors import ConfigError
from tune.report.runs.collect import Entry, collect
from tune.run_dir import find_run, read_json, run_id

_RUN = re.compile(r"[:-] ['\"]?run:(.+?)['\"]?$", re.MULTILINE)


def checkpoints(folder: Path) -> list[Path]:
    """What only `tune resume` reads, of a run, a chain or a sweep."""
    return sorted(folder.rglob("checkpoints/*.ckpt"))


def weights(folder: Path) -> list[Path]:
    """What `tune.load` and further training read, of the same."""
    return sorted(folder.rglob("model.safetensors"))


def num_bytes(paths: Iterable[Path]) -> int:
    """Of files, and of all below folders."""
    files = (file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.lstat().st_size for file in files if not file.is_dir())


@dataclass(frozen=True)
class Need:
    """That a run would be missed.

    Args:
        folder: of the run, resolved.
        by: folder of what needs it, resolved.
        text: what that is and does with it.
    """

    folder: Path
    by: Path
    text: str


def needs(output: Path) -> list[Need]:
    """Which runs below an output folder others start from, are put together from, or count among their trials."""
    entries, sweeps = collect(output)
    found: list[Need] = []
    places: dict[str, Path | None] = {}
    trials = {trial.entry.run_dir: trial.entry for sweep in sweeps for trial in sweep.trials if trial.entry}
    for entry in [*entries, *trials.values()]:
        for word, text in _named_by(entry):
            if word not in places:
                places[word] = _place(word, output)
            if (folder := places[word]) is not None:
                found.append(Need(folder, entry.run_dir.resolve(), f"{entry.id} {text}"))
    for sweep in sweeps:
        for trial in sweep.trials:
            if trial.entry and trial.entry.run_dir.parent != sweep.folder:
                text = f"sweep {sweep.id} counts it as its trial {trial.number}"
                found.append(Need(trial.entry.run_dir.resolve(), sweep.folder.resolve(), text))
    return found


def _named_by(entry: Entry) -> Iterator[tuple[str, str]]:
    """Runs that a run names, as it names them, and what for."""
    config, together = entry.run_dir / "config.yaml", entry.run_dir / "ensemble.json"
    if config.is_file():
        for word in dict.fromkeys(_RUN.findall(config.read_text())):
            yield word, f"starts from it, or learns from it (run:{word})"
    if together.is_file():
        for word in read_json(together)["members"]:
            yield word, f"is an ensemble that {run_id(Path(word))} belongs to"


def _place(word: str, output: Path) -> Path | None:
    try:
        return find_run(word, output).resolve()
    except ConfigError:  # it is gone already, or its name has become that of several
        return None
