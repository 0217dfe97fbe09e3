"""What an experiment itself asks to be run many times: the axes of `sweep.params`, the cases of `sweep.cases`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tune.config import overrides
from tune.config.overrides import Axis, Change
from tune.config.tree import ConfigTree
from tune.errors import Problem


@dataclass(frozen=True)
class Case:
    """One of several ways to run an experiment that differ in more than one key.

    Args:
        name: "" where there are no cases.
        changes: its words.
    """

    name: str = ""
    changes: tuple[Change, ...] = ()


def params(
    tree: ConfigTree, cfg: dict[str, Any], origin: Callable[[str], str], given: set[str]
) -> tuple[list[Axis], list[Problem]]:
    """The axes of `sweep.params`, without the keys that the command line sets itself.

    Args:
        tree: where options are looked up.
        cfg: the composed config.
        origin: who wrote a dotted key.
        given: targets of the command line's changes.
    """
    axes: list[Axis] = []
    problems: list[Problem] = []
    for key, value in _mapping(cfg, "params").items():
        if str(key).replace("/", ".") in given:
            continue
        word = f"{key}=choice({','.join(str(item) for item in value)})" if isinstance(value, list) else f"{key}={value}"
        where = origin(f"sweep.params.{key}")
        if _is_whole_run(str(key)):
            problems.append(Problem(f"sweep.params.{key}", "cannot be swept from inside an experiment", where))
            continue
        found, wrong = overrides.parse(tree, [word], where)
        axes += found
        problems += wrong
    return axes, problems


def cases(
    tree: ConfigTree, cfg: dict[str, Any], origin: Callable[[str], str], given: set[str], swept: set[str]
) -> tuple[list[Case], list[Problem]]:
    """The cases, one without a name if there are none. Where the command line sets a key, it is taken from there; of
    cases that are then the same the first is left.

    Args:
        tree: where options are looked up.
        cfg: the composed config.
        origin: who wrote a dotted key.
        given: targets of the command line's changes.
        swept: targets of `sweep.params`.
    """
    found: dict[tuple[str, ...], Case] = {}
    problems: list[Problem] = []
    for name, words in _mapping(cfg, "cases").items():
        key = f"sweep.cases.{name}"
        if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
            problems.append(Problem(key, "must be a list of words, as in [freeze=full, lr=1e-4]", origin(key)))
            continue
        axes, wrong = overrides.parse(tree, words, origin(key))
        problems += [Problem(key, f"{problem.key}: {problem.text}", problem.where) for problem in wrong]
        for axis in axes:
            if text := _refusal(axis, swept):
                problems.append(Problem(key, text, axis.changes[0].where))
        changes = tuple(axis.changes[0] for axis in axes if axis.changes[0].target not in given)
        found.setdefault(tuple(change.text for change in changes), Case(str(name), changes))
    return list(found.values()) or [Case()], problems


def _refusal(axis: Axis, swept: set[str]) -> str:
    change = axis.changes[0]
    if axis.is_swept:
        return f"{change.key} has several values; a case is one run: list them in sweep.params, or as cases"
    if change.target in swept:
        return f"{change.target} is in sweep.params too; leave it out of one of them"
    return f"{change.key} cannot be set in a case" if _is_whole_run(change.key) else ""


def _is_whole_run(key: str) -> bool:
    return key.split("@")[0] in ("experiment", "sweep") or key.startswith("sweep.")


def _mapping(cfg: dict[str, Any], name: str) -> dict[Any, Any]:
    sweep = cfg.get("sweep")
    value = sweep.get(name) if isinstance(sweep, dict) else None
    return value if isinstance(value, dict) else {}
