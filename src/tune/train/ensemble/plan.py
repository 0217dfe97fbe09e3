"""Which trials of a sweep decide together. Torch-free: the driver asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.config.across.repeats import EnsembleOptions, ensemble_of
from tune.errors import ConfigError, Problem
from tune.run_dir import read_json
from tune.train.fused.group import fuse_key
from tune.train.sweep.ledger import canonical, deciding

if TYPE_CHECKING:
    from tune.train.sweep.leaderboard import Row


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
        """As a line of a table, under the words that its members share."""
        first = self.rows[0]
        words = [word for word in first.overrides if all(word in row.overrides for row in self.rows)]
        metrics = read_json(self.folder / "run.json")["metrics"]
        config = {**first.config, "together": asdict(ensemble_of(first.config))}  # the table knows no `ensemble`
        return replace(
            first, number=number, overrides=words, config=config, run_dir=self.folder, metrics=metrics, auto={}
        )


def ensembles(rows: list[Row], sweep_dir: Path) -> list[Ensemble]:
    """The ensembles of a sweep: of all trials on the same data, or one for each point that has members of its own."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        options = ensemble_of(row.config)
        if options.combine != "none":
            groups[_shared(row.config)].append(row)
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
    kinds: dict[EnsembleOptions, list[dict[str, Any]]] = defaultdict(list)
    for config in configs:
        kinds[replace(ensemble_of(config), member=None)].append(config)
    problems = [problem for options, some in kinds.items() for problem in _problems(options, some)]
    if problems:
        raise ConfigError(*problems)


def _problems(options: EnsembleOptions, configs: list[dict[str, Any]]) -> Iterator[Problem]:
    how = options.combine
    if how == "none" and options.members > 1:
        text = f"{options.members} members and nothing that combines them: ensemble=seeds"
        yield Problem("ensemble.members", text)
    if how != "none" and configs[0]["sweep"]["keep"] != "all":
        yield Problem("sweep.keep", f"{how} needs the weights of all its members: leave it out")
    if (how == "boost") != (options.vary == "weights"):
        yield Problem("ensemble.vary", "weights belongs to ensemble.combine=boost, and that to it")
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for config in configs:
        groups[_shared(config)].append(config)
    folds = len({canonical(config["data"].get("split", {}).get("fold")) for config in configs})
    if how != "none" and min(map(len, groups.values())) < (2 * folds if how == "stack" else 2):
        text = f"{how} of one member: give several with -m, as in -m ensemble=… lr=1e-3,1e-2, or ensemble.members=5"
        yield Problem("ensemble", text)
    if how == "boost" and any(fuse_key(config) is None for config in configs):
        text = "boost weighs the rows for heads on a frozen backbone: freeze=deep, on one device, without mixup"
        yield Problem("ensemble", text)


def _shared(config: dict[str, Any]) -> str:
    """What the members of one ensemble have in common: the data, and all else where it has members of its own."""
    options = ensemble_of(config)
    kept = {key: value for key, value in deciding(config).items() if key != "ensemble"}
    data = kept["data"]
    if options.members == 1:
        split = {key: value for key, value in data.get("split", {}).items() if key != "fold"}
        kept = {"data": {key: value for key, value in data.items() if key != "bootstrap"} | {"split": split}}
    elif options.vary == "seed":
        kept.pop("seed")
    elif options.vary == "rows":
        kept["data"] = {key: value for key, value in data.items() if key != "bootstrap"}
    return canonical([asdict(replace(options, member=None)), kept])
