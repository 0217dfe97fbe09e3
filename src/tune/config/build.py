"""From a checked node to the object it names.

    loss = build(cfg["loss"], class_counts=[1082, 492])

Nothing is judged here: a config from anywhere but `check` must pass `gate.problems` first.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import sys
import typing
from pathlib import Path
from typing import Any

from tune.errors import ConfigError


def build(node: dict[str, Any], /, **facts: Any) -> Any:
    """Import the target and call it with the node's keys and those facts that its signature names.

    Nodes inside the node that name a target of their own are built first, with the same facts; a mapping for an
    argument that is annotated with a dataclass becomes that dataclass.

    Args:
        node: `_target_` and its arguments.
        facts: what only the run knows, by reserved name.
    """
    target = locate(node["_target_"])
    names = inspect.signature(target).parameters
    hints = _hints(target) if any(isinstance(value, dict) for value in node.values()) else {}
    given = {key: value for key, value in node.items() if key != "_target_"}
    arguments = {key: _value(value, hints.get(key), facts, key) for key, value in given.items()}
    arguments |= {name: fact for name, fact in facts.items() if name in names and name not in arguments}
    return target(**arguments)


def locate(target: str) -> Any:
    """Import a class or function by its dotted name."""
    module, _, name = target.rpartition(".")
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        # A console script has its own folder on the path, not the user's.
        sys.path.append(str(Path.cwd()))
    return getattr(importlib.import_module(module), name)


def _value(value: Any, hint: Any, facts: dict[str, Any], key: str) -> Any:
    if isinstance(value, list):
        return [_value(item, None, facts, f"{key}.{number}") for number, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "_target_" in value:
        try:
            return build(value, **facts)
        except ConfigError as error:
            raise error.below(key) from error
    for option in (hint, *typing.get_args(hint)):
        if isinstance(option, type) and dataclasses.is_dataclass(option):
            return option(**value)
    return {name: _value(item, None, facts, f"{key}.{name}") for name, item in value.items()}


def _hints(target: Any) -> dict[str, Any]:
    """Annotations as objects; those that exist for the type checker alone are of no use here."""
    try:
        return typing.get_type_hints(target.__init__ if isinstance(target, type) else target)
    except NameError:
        return {}
