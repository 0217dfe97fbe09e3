"""What `evaluate` asks for that has no effect, or cannot be done with the rest of a config. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tune.config.across.fitted import is_fitted
from tune.config.compose import Composed
from tune.config.overrides import COMMAND_LINE
from tune.errors import Problem

_TAKES = {
    "fgsm": ("eps", "rows"),
    "pgd": ("eps", "rows", "steps"),
    "teacher": ("eps", "rows", "steps", "teacher"),
}
"""What each attack takes."""


def problems(composed: Composed) -> Iterator[Problem]:
    """Keys that the attack does not take, and attacks that a fitted head has no gradient for.

    What a file sets is let be where the command line chooses another attack, or none.
    """
    node = composed.cfg.get("evaluate")
    if not isinstance(node, dict):
        return
    attack, key = node.get("attack"), "evaluate.attack"
    for name in without_effect(node):
        inside = f"evaluate.{name}"
        if composed.origin(inside) == COMMAND_LINE or composed.origin(key) != COMMAND_LINE:
            why = f"with evaluate.attack={attack}" if attack else "without evaluate.attack=fgsm, pgd or teacher"
            yield Problem(inside, f"has no effect {why}: leave it out", composed.origin(inside))
    yield from (Problem(name, text, composed.origin(name)) for name, text in node_problems(node, composed.cfg))


def node_problems(node: dict[str, Any], cfg: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, text) of what is wrong with `evaluate` itself, and with it beside the rest of a config."""
    eps = node.get("eps")
    if isinstance(eps, list) and not eps:
        yield "evaluate.eps", "is empty: give at least one, in units of 1/255, as in [2,4,8]"
    elif isinstance(eps, list):
        names = [f"{each:g}" for each in eps if isinstance(each, (int, float))]  # as the metrics have them
        if len(set(names)) < len(names):
            yield "evaluate.eps", f"has a value twice: {', '.join(names)}"
    if node.get("attack") in ("fgsm", "pgd") and is_fitted(cfg.get("head")):
        text = f"{node['attack']} needs a gradient, and a head that is fitted at once has none: evaluate.attack=teacher"
        yield "evaluate.attack", text


def without_effect(node: dict[str, Any]) -> list[str]:
    """Keys of `evaluate` that its attack does not take."""
    attack = node.get("attack")
    if attack is not None and attack not in _TAKES:
        return []  # the type complains
    known = {name for names in _TAKES.values() for name in names}
    return [name for name in node if name in known and name not in _TAKES.get(attack or "", ())]
