"""The runs that a chain consists of, each in a folder of its own below the chain's. Torch-free.

stage-1, stage-2 …    each starts from the backbone of the one before
straight              the last stage again, from where the first began
from-stage-1 …        the last stage again, from an earlier one; with three stages or more
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune.run_dir import read_json
from tune.train.sweep.ledger import set_aside

DONE, RESUMED, MISSING = "done", "resumed", "missing"


@dataclass(frozen=True)
class Part:
    """One run of a chain.

    Args:
        name: of its folder.
        title: for messages.
        folder: its run folder.
        builds_on: number of stages whose weights went into it.
        stage: number of the stage whose config it has, from 1.
        words: of that stage.
        choices: option chosen in each group.
        config: for the run, with the weights it starts from.
        own: the same with the weights it would start from outside the chain.
    """

    name: str
    title: str
    folder: Path
    builds_on: int
    stage: int
    words: list[str]
    choices: dict[str, str]
    config: dict[str, Any]
    own: dict[str, Any]

    @property
    def is_stage(self) -> bool:
        """Whether it is a link of the chain, and not beside it."""
        return self.name.startswith("stage-")

    def record(self) -> dict[str, Any] | None:
        """Its run.json; None before it began."""
        path = self.folder / "run.json"
        return read_json(path) if path.is_file() else None

    def state(self) -> str:
        """Whether it is done, can be resumed exactly, or is missing."""
        record = self.record()
        if record is None or record["status"] in ("failed", "diverged"):
            return MISSING
        return DONE if record["status"] == "done" else RESUMED


def parts_of(config: dict[str, Any], folder: Path) -> list[Part]:
    """The runs of a chain, in the order in which they run.

    Args:
        config: of the chain; `stages` holds the stages, composed.
        folder: of the chain.
    """
    last = len(config["stages"])
    begin = config["stages"][0]["config"]["backbone"].get("weights")
    stages = [_part(config, folder, f"stage-{number}", number, number - 1, begin) for number in range(1, last + 1)]
    beside = [_part(config, folder, "straight", last, 0, begin)]
    beside += [_part(config, folder, f"from-stage-{number}", last, number, begin) for number in range(1, last - 1)]
    return [*stages, *beside]


def _part(config: dict[str, Any], folder: Path, name: str, stage: int, builds_on: int, begin: str | None) -> Part:
    asked = config["stages"][stage - 1]
    own, whole = deepcopy(asked["config"]), deepcopy(asked["config"])
    if begin is not None:
        own["backbone"]["weights"] = whole["backbone"]["weights"] = begin
    if builds_on:
        whole["backbone"]["weights"] = f"run:{folder / f'stage-{builds_on}'}"
    title = {"stage": f"stage {stage}", "straight": "straight"}.get(name.split("-")[0], f"from stage {builds_on}")
    return Part(name, title, folder / name, builds_on, stage, asked["words"], asked["choices"], whole, own)


def plan(parts: list[Part]) -> dict[str, str]:
    """What to do for each part, by name. One that builds on a stage that is trained again is missing too."""
    again = min((part.stage for part in parts if part.is_stage and part.state() != DONE), default=len(parts) + 1)
    return {part.name: MISSING if part.builds_on >= again else part.state() for part in parts}


def make_room(part: Part) -> None:
    """Move what an earlier attempt left out of the way."""
    if part.folder.exists():
        set_aside(part.folder)


def take_over(parts: list[Part], folder: Path, key: str) -> None:
    """Bring the parts of the last attempt at a trial back: a sweep moves the folder of one that did not end aside.

    Args:
        parts: of the chain.
        folder: of the trial, which is new.
        key: ledger key of the trial.
    """
    before = sorted(folder.parent.glob(f"{folder.name}.attempt*"), key=lambda path: int(path.suffix[8:]))
    for attempt in reversed(before):
        record = attempt / "run.json"
        if record.is_file() and read_json(record).get("ledger_key") == key:
            for part in parts:
                if (attempt / part.name).exists() and not part.folder.exists():
                    (attempt / part.name).rename(part.folder)
            return
