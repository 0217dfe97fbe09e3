"""The data that words like `data=csv data.file=new.csv` name for `tune evaluate`. Torch-free."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tune.config.check import check
from tune.config.compose import Composed, ConfigTree, compose
from tune.config.overrides import COMMAND_LINE, apply, parse
from tune.errors import ConfigError, Problem

_PER_RUN = ("split", "sampler", "bootstrap", "tasks", "fit")
_TEXTS = {"fit": "is that of the run", "tasks": "are not measured on other data"}


def data_asked(words: list[str], config: dict[str, Any], allow: list[str]) -> dict[str, Any]:
    """The `data` node that is meant: the run's own with other values, or a new one.

    A word that chooses an option (`data=csv`) begins anew. Without one the values are put into the run's own node if
    it knows their keys, else into the default option, so that `data.root=DIR` means a folder per class for any run.

    Args:
        words: of the command line.
        config: of the run.
        allow: modules that the node may name.

    Raises:
        ConfigError: with everything that is wrong with the words.
    """
    tree = ConfigTree.find()
    axes, problems = parse(tree, words)
    changes = [axis.changes[0] for axis in axes]
    for change in changes:
        group, _, key = change.target.partition(".")
        if group != "data":
            text = "is the run's own: of what is measured only data can be chosen: data=csv data.file=FILE"
            problems.append(Problem(change.target, text, COMMAND_LINE))
        elif (name := key.partition(".")[0]) in _PER_RUN:
            text = _TEXTS.get(name, "has no effect: all rows are measured")
            problems.append(Problem(change.target, f"{text}: leave it out", COMMAND_LINE))
    problems += [Problem(a.changes[0].target, "has several values: give one", COMMAND_LINE) for a in axes if a.is_swept]
    if problems:
        raise ConfigError(*problems)
    fresh = compose(tree, words)
    if any(change.is_choice for change in changes):
        wanted, wrong = fresh.cfg, _problems(fresh, tree, allow)
    else:
        wanted = {**config, "data": deepcopy(_without_rows(config["data"]))}
        failed = [problem for change in changes if (problem := apply(change, wanted))]
        own = Composed(wanted, fresh.origin, words, fresh.choices)
        wrong = failed + _problems(own, tree, allow)
        if wrong and not (other := _problems(fresh, tree, allow)):
            wanted, wrong = fresh.cfg, other
    if wrong:
        raise ConfigError(*wrong)
    return wanted["data"]


def _without_rows(node: dict[str, Any]) -> dict[str, Any]:
    """A run's own node without what was for its own rows: the split, and a list of all classes."""
    return {key: value for key, value in node.items() if key not in (*_PER_RUN, "classes")}


def _problems(composed: Composed, tree: ConfigTree, allow: list[str]) -> list[Problem]:
    return [problem for problem in check(composed, tree, allow) if problem.key.partition(".")[0] == "data"]
