"""What a config repeats by itself: the folds of a cross-validation, the members of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from tune.errors import Problem
from tune.ranges import Range

WHERE = "data.split.folds or ensemble"
"""Who wrote the words that are added."""


@dataclass(frozen=True)
class EnsembleOptions:
    """Members that are trained, and how they decide together.

    With one member for each point of a sweep (`members` 1) all of the sweep is one ensemble; otherwise every point of
    it is an ensemble of its own.

    Args:
        combine: ``average`` of the probabilities, ``vote`` (each member has one; ties go by the average), greedy
            ``soup`` (average of weights, as long as that helps on validation), ``stack`` (a logistic regression on what
            they say of rows that they were not trained on), ``boost`` (SAMME's weighted vote), or ``none``.
        members: so many are trained.
        vary: in what they differ: ``seed``, ``rows`` (drawn with replacement), or ``weights`` of the rows, by the
            mistakes of the members before (for ``boost``).
        folds: of the cross-validation that a stack learns from.
        member: number of a boosted member, from 0; set by the run.
    """

    combine: Literal["none", "average", "vote", "soup", "stack", "boost"] = "none"
    members: Annotated[int, Range("[1, 1000]")] = 1
    vary: Literal["seed", "rows", "weights"] = "seed"
    folds: Annotated[int, Range("[2, 100]")] = 5
    member: Annotated[int, Range("[0, inf)")] | None = None


def ensemble_of(cfg: dict[str, Any]) -> EnsembleOptions:
    """What a config says of its ensemble; defaults for what is missing or unknown, which the checks tell of."""
    known = {field.name for field in fields(EnsembleOptions)}
    return EnsembleOptions(**{key: value for key, value in _node(cfg, "ensemble").items() if key in known})


def words(cfg: dict[str, Any]) -> list[str]:
    """Overrides, as typed, that make one run several; empty for a config that is one run."""
    ensemble, split, found = ensemble_of(cfg), _node(cfg, "data", "split"), []
    folds = split.get("folds")
    if folds is None and ensemble.combine == "stack":
        folds = ensemble.folds
        found.append(f"data.split.folds={folds}")
    if isinstance(folds, int) and folds > 1 and split.get("fold") is None:
        found.append(f"data.split.fold=range(0,{folds})")
    members, seed = ensemble.members, cfg.get("seed")
    if isinstance(members, int) and members > 1 and isinstance(seed, int):
        axes = {
            "seed": f"seed=range({seed},{seed + members})",
            "rows": f"data.bootstrap=range(0,{members})",
            "weights": f"ensemble.member=range(0,{members})" if ensemble.member is None else "",
        }
        found += filter(None, [axes.get(ensemble.vary, "")])
    return found


def problems(cfg: dict[str, Any], swept: list[str]) -> list[Problem]:
    """What stands in the way of it."""
    ensemble = ensemble_of(cfg)
    keys = {word.lstrip("+").partition("=")[0] for word in swept}
    if ensemble.members != 1 and ensemble.vary == "seed" and "seed" in keys:
        text = "its members differ in their seeds, so a sweep over seeds would share them; sweep over data.split.seed"
        return [Problem("ensemble.members", text)]
    return []


def _node(cfg: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        cfg = cfg.get(key, {})  # pyright: ignore[reportAssignmentType]
        if not isinstance(cfg, dict):
            return {}
    return cfg
