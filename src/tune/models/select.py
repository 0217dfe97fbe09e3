"""Choosing layers by rules or by a cut."""

from __future__ import annotations

import difflib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def decide_by_rules(rules: Mapping[str, str], layers: Sequence[str]) -> frozenset[str]:
    """Layers that ordered rules (pattern → "trained" or "frozen") let train; the first rule that matches decides.

    Raises:
        ConfigError: holds each rule that decides nothing, and the layers that no rule decides.
    """
    problems, decision = [], {}
    for pattern, verdict in rules.items():
        matched = [layer for layer in layers if _matches(pattern, layer)]
        fresh = [layer for layer in matched if layer not in decision]
        decision |= dict.fromkeys(fresh, verdict)
        if verdict not in ("trained", "frozen"):
            problems.append(Problem(f"freeze.rules.{pattern}", f"{verdict!r} is neither trained nor frozen"))
        elif not matched:
            problems.append(Problem("freeze.rules", _unknown(pattern, layers)))
        elif not fresh:
            earlier = next(rule for rule in rules if _matches(rule, matched[0]))
            text = f"{pattern!r} decides nothing: {earlier!r}, which stands before it, has decided all it matches"
            problems.append(Problem("freeze.rules", text))
    undecided = [layer for layer in layers if layer not in decision]
    if undecided and not problems:
        text = f'no rule decides {", ".join(undecided)}. End with "*": frozen or "*": trained'
        problems.append(Problem("freeze.rules", text))
    if problems:
        raise ConfigError(*problems)
    return frozenset(layer for layer, verdict in decision.items() if verdict == "trained")


def layers_above_cut(cut: float | int | str | list[str], layers: Sequence[str]) -> frozenset[str]:
    """Backbone layers that train above a cut.

    Args:
        cut: a share of the layers (rounded, at least one), a number of layers from the top, the name of the lowest
            layer that trains, or regular expressions for whole names.
        layers: of the backbone, from the input up.

    Raises:
        ConfigError: if the cut is out of range or names no layer.
    """
    if isinstance(cut, list):
        return _by_expressions(cut, layers)
    if isinstance(cut, str):
        matched = [number for number, layer in enumerate(layers) if _matches(cut, layer)]
        if not matched:
            raise ConfigError(Problem("freeze.cut", _unknown(cut, layers)))
        return frozenset(layers[matched[0] :])
    if isinstance(cut, int) and not isinstance(cut, bool):
        if not 1 <= cut <= len(layers):
            text = f"{cut} layers from the top; the backbone has {len(layers)}. For none: freeze=deep, all: freeze=full"
            raise ConfigError(Problem("freeze.cut", text))
        return frozenset(layers[-cut:])
    if isinstance(cut, bool) or not 0 < cut < 1:
        text = f"{cut} is no share between 0 and 1, whole number of layers, layer or list of regular expressions"
        raise ConfigError(Problem("freeze.cut", text))
    return frozenset(layers[-max(1, round(cut * len(layers))) :])


def _by_expressions(expressions: list[str], layers: Sequence[str]) -> frozenset[str]:
    problems, chosen = [], set()
    for expression in expressions:
        try:
            matched = {layer for layer in layers if re.fullmatch(expression, layer)}
        except re.error as error:
            problems.append(Problem("freeze.cut", f"{expression!r} is no regular expression: {error}"))
            continue
        if not matched:
            problems.append(Problem("freeze.cut", _unknown(expression, layers)))
        chosen |= matched
    if not expressions:
        problems.append(Problem("freeze.cut", "an empty list chooses nothing; for that: freeze=deep"))
    if problems:
        raise ConfigError(*problems)
    return frozenset(chosen)


def _matches(pattern: str, layer: str) -> bool:
    return layer == pattern or layer.startswith(f"{pattern}.") or fnmatchcase(layer, pattern)


def _unknown(pattern: str, layers: Sequence[str]) -> str:
    """Names the layers there are, runs of numbered ones drawn together, and the nearest."""
    starts = ["".join(layer[: cut.start()]) for layer in layers for cut in re.finditer(r"\.", layer)]
    near = difflib.get_close_matches(pattern, [*layers, *starts], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"no layer is called {pattern!r}.{hint} There are: {', '.join(layers)}"
