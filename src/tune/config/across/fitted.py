"""What a head that is fitted at once makes of the other keys: those that train by steps have no effect. Torch-free."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from tune.config.compose import Composed
from tune.config.habits import nearest
from tune.config.overrides import COMMAND_LINE
from tune.config.signature.source import Found, Module, find, inherits, signature
from tune.errors import Problem

INTERFACE = "tune.models.interface.FittedHead"
SKLEARN = "tune.models.heads.sklearn_model"

_BY_STEPS = (
    *("lr", "epochs", "epoch_steps", "batch_size", "monitor"),
    *("init", "regularize", "optimizer", "scheduler", "transfer", "trainer"),
)
_OF_THE_DEVICE = frozenset({"trainer", "trainer._target_", "trainer.accelerator", "trainer.devices"})


def is_fitted(head: Any) -> bool:
    """Whether a `head` node names a class that is fitted at once, not trained by steps."""
    found = find(head["_target_"]) if isinstance(head, dict) and isinstance(head.get("_target_"), str) else ""
    return isinstance(found, Found) and inherits(found, INTERFACE)


def problems(composed: Composed) -> Iterator[Problem]:
    """What was typed and has no effect on such a head, and options that a classifier does not have.

    What a file sets is let be, so that an experiment can be tried with another head.
    """
    cfg = composed.cfg
    head: Any = cfg.get("head")
    if not is_fitted(head):
        return
    text = f"has no effect with head={composed.choices.get('head', '')}, which is fitted at once: leave it out"
    typed = [key for name in _BY_STEPS for key in _keys(name, cfg.get(name)) if composed.origin(key) == COMMAND_LINE]
    for key in typed:
        if key not in _OF_THE_DEVICE and (
            key.partition(".")[0] in (key, "trainer") or key.partition(".")[0] not in typed
        ):
            yield Problem(key, text, COMMAND_LINE)
    found = find(head["_target_"])
    if isinstance(found, Found) and found.module.name == SKLEARN:
        name = head.get("name", signature(found).parameters["name"].default_value)
        yield from _options(composed, found.module, name, head.get("options"))


def _keys(name: str, node: Any) -> Iterator[str]:
    """A key, and those below it."""
    yield name
    for inner, value in node.items() if isinstance(node, dict) else ():
        yield from _keys(f"{name}.{inner}", value)


def _options(composed: Composed, module: Module, name: Any, options: Any) -> Iterator[Problem]:
    """Options against the signature of the classifier that a name stands for."""
    table = module.names["CLASSIFIERS"]
    assert isinstance(table, ast.Dict)
    found = find(ast.literal_eval(table).get(name, ""))
    known = signature(found).parameters if isinstance(found, Found) else {}
    for option in options if known and isinstance(options, dict) else ():
        if option not in known:
            close = nearest(str(option), list(known))
            hint = f" Did you mean head.options.{close[0]}?" if close else ""
            key = f"head.options.{option}"
            yield Problem(key, f"unknown.{hint}  head.name={name} takes: {', '.join(known)}", composed.origin(key))
