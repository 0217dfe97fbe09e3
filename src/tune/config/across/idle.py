"""Keys that somebody set and that nothing reads, because of what another key says. Torch-free.

What an option of a group sets is let be. So is a key of a file where the command line, or an axis of a sweep, has
chosen what makes it idle: an experiment can be tried with other options.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tune.config.across.domains import closes_source
from tune.config.across.fitted import is_fitted
from tune.config.across.repeats import WHERE, ensemble_of
from tune.config.compose import Composed
from tune.config.overrides import COMMAND_LINE
from tune.config.signature.source import Found, find, signature
from tune.config.tree import locate
from tune.errors import ConfigError, Problem

FREEZE_PLAN = "tune.models.freeze.FreezePlan"


def problems(composed: Composed) -> Iterator[Problem]:
    """Each such key, with the reason and what to do."""
    for key, why, switches in _idle(composed):
        if _value(composed.cfg, key) and is_asked_for(composed, key, switches):
            yield Problem(key, f"has no effect: {why}", composed.origin(key))


def overruled(composed: Composed) -> Iterator[Problem]:
    """Keys of a chain that every stage sets again, each by its own words, in the same file."""
    stages = [{_target(word) for word in stage["words"]} for stage in composed.cfg["stages"]]
    for key in sorted(set.intersection(*stages)):
        where = composed.origin(key)
        if "/" not in key and _file(where) == _file(composed.origin("stages")):
            yield Problem(key, "has no effect: every stage sets it by its own words. Leave it out", where)


def of_sweeps(composed: Composed) -> list[str]:
    """Lines about what somebody asked for that a run on its own does not read."""
    found = []
    for key in ("sweep.jobs", "sweep.fuse"):
        if is_asked_for(composed, key):
            found.append(f"note: {key} ({composed.origin(key)}) has no effect on a run on its own; a sweep reads it")
    return found


def _idle(composed: Composed) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Keys that nothing reads, why and what to do, and the keys that make it so."""
    cfg = composed.cfg
    if not _value(cfg, "regularize.early_stopping"):
        why = "nothing stops early. Give regularize.early_stopping too, or leave it out"
        yield "regularize.min_delta", why, ("regularize", "regularize.early_stopping")
    head = cfg.get("head")
    if not (_takes(head, "dropout") or is_fitted(head)):
        yield "regularize.dropout", "this head drops nothing (its class has no `dropout`)", ("head",)
    if closes_source(cfg):
        why = "source_free learns without labels, so there are none to smooth"
        yield "regularize.label_smoothing", why, ("transfer", "backbone.weights")
    if trains_backbone(cfg) is False:
        for key in ("backbone.drop_path", "backbone.first.drop_path", "backbone.second.drop_path"):
            yield key, "the backbone is frozen, and leaves no branch out. Let it train: freeze=full", ("freeze",)
    if cfg.get("compile") != "auto" and _is_all_trained(cfg):
        yield "compile", "the frozen part is what is compiled, and freeze=full has none: compile=auto", ("freeze",)
    if _value(cfg, "cache.mode") == "never":
        for key in ("cache.max_gb", "cache.dir"):
            yield key, "nothing is kept with cache=never", ("cache", "cache.mode")
    ensemble, folds = ensemble_of(cfg), _value(cfg, "data.split.folds")
    folds = folds if composed.origin("data.split.folds") != WHERE else None  # in a fold of the stack's own
    if ensemble.combine != "stack" or folds:
        why = "data.split.folds says how many" if folds else "only ensemble=stacking learns from folds"
        yield "ensemble.folds", why, ("ensemble", "ensemble.combine")
    if ensemble.members == 1 and ensemble.combine != "boost" and ensemble.vary != "weights":
        yield "ensemble.vary", "no members are trained for it: ensemble.members=5", ("ensemble", "ensemble.members")


def trains_backbone(cfg: dict[str, Any]) -> bool | None:
    """Whether anything of the backbone ever trains, as far as the rules of `freeze` tell; None if they do not."""
    freeze = cfg.get("freeze")
    if not isinstance(freeze, dict) or freeze.get("_target_") != FREEZE_PLAN:
        return None
    rules = freeze.get("rules")
    if not isinstance(rules, dict):
        return True
    others = {what for pattern, what in rules.items() if pattern != "head"}
    return False if others == {"frozen"} else True if others == {"trained"} else None


def _is_all_trained(cfg: dict[str, Any]) -> bool:
    freeze = cfg.get("freeze")
    if not isinstance(freeze, dict) or freeze.get("_target_") != FREEZE_PLAN or freeze.get("head_epochs"):
        return False
    rules = freeze.get("rules")
    return (
        freeze.get("cut") is None if rules is None else isinstance(rules, dict) and set(rules.values()) == {"trained"}
    )


def _takes(node: Any, name: str) -> bool:
    """Whether the class that a node names has an argument; a class that is not found is told of elsewhere."""
    found = find(node["_target_"]) if isinstance(node, dict) and isinstance(node.get("_target_"), str) else ""
    return not isinstance(found, Found) or name in signature(found).parameters


def is_asked_for(composed: Composed, key: str, switches: tuple[str, ...] = ()) -> bool:
    """Whether the command line sets a key, or an experiment does and nobody has decided otherwise since.

    Args:
        composed: the run.
        key: dotted.
        switches: other keys that decide whether it is read.
    """
    varied = {_target(word) for word in composed.swept}
    if key in varied or varied & set(switches):
        return False
    where = composed.origin(key)
    if where == COMMAND_LINE:
        return True
    return _is_experiment(where) and not any(composed.origin(switch) == COMMAND_LINE for switch in switches)


def _is_experiment(where: str) -> bool:
    """Whether FILE:LINE is of an experiment; run.yaml lies in no group."""
    try:
        return locate(Path(_file(where)))[1] == "experiment"
    except ConfigError:
        return False


def _target(word: str) -> str:
    """What a word of a sweep is about, however it is spelled."""
    return word.lstrip("+~").partition("=")[0].replace("/", ".")


def _file(where: str) -> str:
    return where.rpartition(":")[0] or where


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg.get(part) if isinstance(cfg, dict) else None
    return cfg
