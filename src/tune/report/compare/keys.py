"""What was set differently."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

ABSENT = "–"
"""What is shown of a key that one of the two does not have."""


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A nested config as dotted key → value; lists, and mappings without a key, are values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys of two flat mappings whose values differ, or that one of them lacks; in the order of the first."""
    keys = dict.fromkeys([*first, *second])
    pairs = {key: (first.get(key, ABSENT), second.get(key, ABSENT)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def in_words(
    keys: Mapping[str, tuple[Any, Any]], choices: Mapping[str, tuple[Any, Any]], typed: Iterable[str]
) -> list[str]:
    """What differs, for people: the options of groups, and other keys.

    Of a group of which the two chose other options, only those keys that were typed.

    Args:
        keys: what differs, by dotted key.
        choices: the same of the options chosen, by group.
        typed: keys on the command line of either.
    """
    typed = set(typed)
    told = [f"{group} {_text(a)} → {_text(b)}" for group, (a, b) in choices.items()]
    for key, (a, b) in keys.items():
        if key in typed or key.partition(".")[0] not in choices:
            told.append(f"{key} {_text(a)} → {_text(b)}")
    return told


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
