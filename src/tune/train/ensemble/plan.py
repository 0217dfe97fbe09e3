"""Which trials of a sweep decide together. Torch-free: the driver asks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.config.across.repeats import ensemble_of
from tune.errors import ConfigError, Problem
from tune.run_dir import read_json
from tune.train.fused.group import fuse_key
from tune.train.sweep.ledger import canonical, deciding

if TYPE_CHECKING:
    from tune.train.sweep.leaderboard import Row

_KEYS = {"seed": "seed", "rows": "data.bootstrap", "weights": "ensemble.member"}


@dataclass(frozen=True)
class Ensemble:
    """Trials that decide together.

    Args:
        rows: the trials.
        how: as `EnsembleOptions.combine`.
        folder: what comes of it.
    """

    rows: list[Row]
    how: str
    folder: Path

    @property
    def is_ready(self) -> bool:
        """Whether all members are done."""
        return all(row.status == "done" for row in self.rows)

    def job(self) -> dict[str, Any]:
        """What a process needs to know to put it together."""
        return {"runs": [str(row.run_dir) for row in self.rows], "how": self.how, "folder": str(self.folder)}

    def as_row(self, number: int) -> Row:
        """As a line of a table."""
        first = self.rows[0]
        options = ensemble_of(first.config)
        own = _KEYS[options.vary] if options.members > 1 else ""
        words = [word for word in first.overrides if not own or word.lstrip("+").partition("=")[0] != own]
        metrics = read_json(self.folder / "run.json")["metrics"]
        return replace(first, number=number, overrides=words, run_dir=self.folder, status="done", metrics=metrics)


def ensembles(rows: list[Row], sweep_dir: Path) -> list[Ensemble]:
    """The ensembles of a sweep: one of all trials, or one for each point of the grid that has members of its own."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        options = ensemble_of(row.config)
        if options.combine != "none":
            groups[_shared(row.config) if options.members > 1 else ""].append(row)
    many = len(groups) > 1
    return [
        Ensemble(
            group, group[0].config["ensemble"]["combine"], sweep_dir / (f"ensemble-{number}" if many else "ensemble")
        )
        for number, group in enumerate(groups.values(), start=1)
    ]


def refuse_lone_members(configs: list[dict[str, Any]]) -> None:
    """Refuse an ensemble that cannot come about.

    Raises:
        ConfigError: if there is one member only, members that nothing combines, or a boosted one that is no head on a
            frozen backbone.
    """
    options = ensemble_of(configs[0])
    how, members = options.combine, options.members
    problems = []
    if how == "none" and members > 1:
        problems.append(
            Problem("ensemble.members", f"{members} members and nothing that combines them: ensemble=seeds")
        )
    if (how == "boost") != (options.vary == "weights"):
        problems.append(Problem("ensemble.vary", "weights belongs to ensemble.combine=boost, and that to it"))
    folds = len({canonical(config["data"].get("split", {}).get("fold")) for config in configs})
    if how != "none" and len(configs) < (2 * folds if how == "stack" else 2):
        text = f"{how} of one member: give several with -m, as in -m ensemble=… head=linear,mlp, or ensemble.members=5"
        problems.append(Problem("ensemble", text))
    if how == "boost" and any(fuse_key(config) is None for config in configs):
        text = "boost weighs the rows for heads on a frozen backbone: freeze=deep, on one device, without mixup"
        problems.append(Problem("ensemble", text))
    if problems:
        raise ConfigError(*problems)


def _shared(config: dict[str, Any]) -> str:
    """What the members of one ensemble have in common."""
    kept = {key: value for key, value in deciding(config).items() if key != "ensemble"}
    vary = ensemble_of(config).vary
    if vary == "seed":
        kept.pop("seed")
    if vary == "rows":
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "bootstrap"}
    return canonical(kept)
