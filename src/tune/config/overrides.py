"""What stands on the command line after the verb: Hydra's override grammar, read by Hydra's own parser.

Choices of a group go to Hydra; values of single keys are put into the composed dict here, so that one compose serves
every trial that differs in values only, and unknown keys reach the checks whether or not they came with a `+`.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Transformer
from hydra.errors import HydraException

from tune.config.habits import nearest
from tune.config.signature.types import written
from tune.config.tree import ConfigTree
from tune.errors import ConfigError, Problem

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Change:
    """One override, understood.

    Args:
        text: as typed, or as one value of a sweep would be typed.
        sign: "", "+", "++" or "~".
        key: dotted key, or a group with "/" and perhaps "@package".
        value: plain value; None for "~key".
        is_choice: whether it chooses an option of a group.
        where: who wrote it, "command line" or FILE:LINE.
    """

    text: str
    sign: str
    key: str
    value: Any
    is_choice: bool
    where: str = COMMAND_LINE

    @property
    def group(self) -> str:
        """The group of a choice, without its package."""
        return self.key.partition("@")[0]

    @property
    def target(self) -> str:
        """What the change is about, however it is spelled: two changes of one target exclude each other."""
        return self.key.replace("/", ".")


@dataclass(frozen=True)
class Axis:
    """The values that one override stands for, one unless it is a sweep."""

    changes: tuple[Change, ...]
    is_swept: bool


def parse(tree: ConfigTree, overrides: Iterable[str], where: str = COMMAND_LINE) -> tuple[list[Axis], list[Problem]]:
    """Read overrides in order; a later one of the same target replaces an earlier one at its place.

    Raises:
        ConfigError: for words without "=", of which nobody knows what they were to change: nothing else is judged then.
    """
    overrides = list(overrides)
    if bare := [word for word in overrides if "=" not in word and not word.startswith("~")]:
        raise ConfigError(*(Problem(word, _meant(tree, word), where) for word in bare))
    parser = OverridesParser.create()
    axes: dict[str, Axis] = {}
    problems: list[Problem] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
            axis = _axis(tree, override, where)
        except HydraException as error:
            problems.append(_unreadable(text, error, where))
            continue
        if isinstance(axis, Problem):
            problems.append(axis)
        else:
            axes[axis.changes[0].target] = axis
    return list(axes.values()), problems


def _meant(tree: ConfigTree, word: str) -> str:
    """What a word without "=" was meant to be."""
    experiments = tree.options("experiment")
    if word in experiments:
        return f"is an experiment: write +experiment={word}"
    if tree.is_group(word):
        return f"is a group: write {word}=OPTION   (tune ls {word})"
    if Path(word).is_dir():
        return f"is a folder: write data.root={word}"
    near = nearest(word, experiments)
    hint = f". Did you mean +experiment={near[0]}?" if near else ""
    return f"has no =. An override is KEY=VALUE, GROUP=OPTION or +experiment=NAME{hint}"


def apply(change: Change, cfg: dict[str, Any]) -> Problem | None:
    """Put one value into a composed dict, in place. Says what is wrong if the key cannot hold one."""
    *above, last = change.key.split(".")
    node: Any = cfg
    for depth, part in enumerate(above):
        if isinstance(node, dict) and node.get(part) is None and change.sign != "~":
            node[part] = {}
        node = _step(node, part)
        if not isinstance(node, (dict, list)):
            parent = ".".join(above[: depth + 1])
            text = "is not there" if node is None else f"{parent} is {node!r} and has no keys below it"
            return Problem(change.key, text, change.where)
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            return Problem(change.key, f"is a list of {len(node)}; its items are numbered from 0", change.where)
        node[int(last)] = change.value
    elif change.sign == "~":
        if last not in node:
            return Problem(change.key, "cannot be removed, it is not there", change.where)
        del node[last]
    else:
        node[last] = _merged(node.get(last), change.value)
    return None


def _step(node: Any, part: str) -> Any:
    if isinstance(node, list):
        return node[int(part)] if part.isdigit() and int(part) < len(node) else None
    return node.get(part)


def _merged(old: Any, new: Any) -> Any:
    """A mapping is merged into a mapping, as Hydra does; everything else replaces."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return deepcopy(new)
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def _axis(tree: ConfigTree, override: Override, where: str) -> Axis | Problem:
    if not override.key_or_group:
        return Problem(str(override.input_line), "cannot be read: nothing stands before the =", where)
    key = override.key_or_group if override.package is None else f"{override.key_or_group}@{override.package}"
    if key.split(".")[0].split("/")[0] == "hydra" or str(override.package).startswith("hydra"):
        return Problem(key, "nothing below `hydra` acts here: remove it", where)
    sign = {"CHANGE": "", "ADD": "+", "FORCE_ADD": "++", "DEL": "~"}[override.type.name]
    if not override.is_sweep_override():
        value = override.value()
        group = _group(tree, key, value, is_delete=sign == "~")
        spelled = override.input_line or ""
        return Axis((Change(spelled, sign, group or key, value, group is not None, where),), is_swept=False)
    if not override.is_discrete_sweep():
        return Problem(key, "interval() has no end of values; give a list, range() or choice()", where)
    values = _values(tree, override, key)
    if not values:
        return Problem(key, f"{override.get_value_string()} stands for no value at all", where)
    changes = []
    for text in values:
        value = OverridesParser.create().parse_override(f"x={text}").value()
        group = _group(tree, key, value, is_delete=False)
        changes.append(Change(f"{sign}{group or key}={text}", sign, group or key, value, group is not None, where))
    found = [(isinstance(change.value, bool), change.value) for change in changes]
    if twice := [value for each in found if found.count(each) > 1 for value in each[1:]]:
        return Problem(key, f"lists {twice[0]} twice", where)
    return Axis(tuple(changes), is_swept=True)


def _values(tree: ConfigTree, override: Override, key: str) -> list[str]:
    """The values of a sweep, each as it would be typed."""
    glob = override._value
    if isinstance(glob, Glob):  # Hydra's loader lists no subfolders
        return glob.filter(tree.options(_group(tree, key, "", is_delete=False) or key))
    values = list(override.sweep_iterator())
    typed = [each.strip() for each in override.get_value_string().removeprefix("choice(").removesuffix(")").split(",")]
    typed = typed if len(typed) == len(values) else [""] * len(values)
    return [
        (text if _is_number(text, each) else written(each)) if isinstance(each, float) else Transformer.str(each)
        for each, text in zip(values, typed, strict=True)
    ]


def _is_number(text: str, value: float) -> bool:
    """Whether a text is that number, so that 1e-2 beside 1e-3 need not become 0.01."""
    try:
        return float(text) == value
    except ValueError:
        return False


def _group(tree: ConfigTree, key: str, value: Any, *, is_delete: bool) -> str | None:
    """The group that an override chooses from, None if it sets a value.

    A leaf assigned onto a nested group (`data.target=digits`) is read as the choice `data/target=digits`.
    """
    if is_delete:
        return key if "." not in key and tree.is_group(key.partition("@")[0]) else None
    if not (value is None or isinstance(value, (str, list))):
        return None
    if "@" in key or "/" in key:
        return key
    if "." not in key:
        return key if tree.is_group(key) else None
    nested = key.replace(".", "/")
    return nested if isinstance(value, str) and tree.is_group(nested) else None


def _unreadable(text: str, error: HydraException, where: str) -> Problem:
    key, _, value = text.partition("=")
    reason = str(error).splitlines()[0] if str(error) else "it does not follow Hydra's grammar"
    if not value:
        return Problem(text, f"cannot be read: {reason}", where)
    return Problem(
        key.lstrip("+~"), f"cannot be read: {reason}. Quote a text with signs in it: '{key}=\"{value}\"'", where
    )


def as_choice(change: Change, known: set[str]) -> Change:
    """The same choice with the sign Hydra wants: "+" for a group that run.yaml has no line for, none for the others.

    So `experiment=x` and `+experiment=x` mean the same. Of one with a package only the composed files tell.
    """
    if change.sign == "~":
        return change
    sign = "" if change.key in known or "@" in change.key else "+"
    text = change.text.lstrip("+")
    return replace(change, sign=sign, text=f"{sign}{change.key}={text.partition('=')[2]}")
