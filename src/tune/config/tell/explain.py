"""Where a key has its value from, what that overrides, who reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tune.config import files, schema
from tune.config.check import unknown_key
from tune.config.compose import Composed
from tune.config.provenance import Written
from tune.config.tell.reader import Reader, comment_at, find_reader, owners_of
from tune.config.tree import ConfigTree
from tune.errors import ConfigError, Problem

SIGNATURE = "the default of its signature"


@dataclass(frozen=True)
class Key:
    """One key below a group or mapping: its value, and who wrote it."""

    key: str
    value: Any
    where: str


@dataclass(frozen=True)
class Explained:
    """What is to be said of a key.

    Args:
        key: dotted.
        value: now; the option for a group.
        where: "command line", FILE:LINE, or FILE:LINE of the signature that gives the default.
        is_default: whether the signature gives it.
        why: the comment beside the value.
        over: what it takes the place of, the strongest first.
        reader: the argument that it becomes; None for a group, and below a signature that is open.
        about: a sentence on it.
        target: class or function that a group's option names, "" where there is none.
        keys: those below it, of a group with those that nobody set.
        varied: what a sweep or a chain puts in its place: value, and where it says so.
    """

    key: str
    value: Any
    where: str
    is_default: bool = False
    why: str = ""
    over: list[Written] = field(default_factory=list)
    reader: Reader | None = None
    about: str = ""
    target: str = ""
    keys: list[Key] = field(default_factory=list)
    varied: list[Written] = field(default_factory=list)


def explain(composed: Composed, tree: ConfigTree, key: str) -> Explained:
    """Explain one key.

    Args:
        composed: the run.
        tree: where it was composed from.
        key: dotted; or a group, `experiment` too.

    Raises:
        ConfigError: if there is no such key.
    """
    key = key.lstrip("+~").replace("/", ".")
    if (group := key.replace(".", "/")) in (*tree.groups_of_run(), "experiment"):
        return _group(composed, tree, group)
    value = _value(composed.cfg, key)
    reader = find_reader(composed.cfg, tree.groups_of_run(), key)
    group, _, name = key.partition(".")
    if value is ... and group in tree.groups_of_run() and name in schema.reserved(group):
        raise ConfigError(Problem(key, schema.reserved(group)[name], "command line"))
    is_there = value is not ... or (reader is not None and (reader.name == key.rpartition(".")[2]))
    if not is_there:
        raise ConfigError(unknown_key(composed, tree, key))
    if key == "stages":
        value = [stage["words"] for stage in value]
    written = composed.origin.written(key)
    varied = _varied(composed, key)
    about = reader.about if reader is not None and reader.name == key.rpartition(".")[2] else ""
    if "." not in key:
        about = about or _of_run(tree, key)
    if not written and value is not ... and not isinstance(value, dict):
        written = [Written(value, composed.origin(key))]
    keys = [Key(each, now, composed.origin(each)) for each, now in _leaves(key, value)]
    if written:
        why = comment_at(written[0].where)
        why = "" if why == about else why
        return Explained(key, value, written[0].where, False, why, written[1:], reader, about, keys=keys, varied=varied)
    if reader is None or value is not ...:  # a mapping that only keys below it were written into
        return Explained(key, value, composed.origin(key), reader=reader, about=about, keys=keys, varied=varied)
    default = None if reader.default is ... else reader.default  # it is computed
    return Explained(key, default, reader.where, is_default=True, reader=reader, about=about, varied=varied)


def _group(composed: Composed, tree: ConfigTree, group: str) -> Explained:
    option = composed.choices.get(group, "")
    written = composed.origin.chosen(group, option)
    if not option:
        raise ConfigError(Problem(group, "none is chosen: add +experiment=NAME", "command line"))
    node = composed.cfg.get(group)
    target = node.get("_target_", schema.WITHOUT_TARGET.get(group, "")) if isinstance(node, dict) else ""
    keys: dict[str, Key] = {}
    reserved = schema.reserved(group)
    for key, now in _leaves(group, node) if group != "experiment" else ():
        if key != f"{group}._target_":
            keys[key] = Key(key, now, composed.origin(key))
    for owner in owners_of(node, group):
        for name, parameter in owner.parameters.items():
            key = f"{group}.{name}"
            if name not in reserved and not any(each == key or each.startswith(f"{key}.") for each in keys):
                default = parameter.default_value
                keys[key] = Key(key, None if default is ... else default, SIGNATURE)
    where = written[0].where if written else composed.origin(group)
    return Explained(
        group,
        option,
        where,
        over=written[1:],
        about=tree.sentence(group, option),
        target=target,
        keys=list(keys.values()),
        varied=_varied(composed, group),
    )


def _of_run(tree: ConfigTree, key: str) -> str:
    """What the shipped run.yaml says beside a key of the run."""
    file = files.read(tree.shipped / "run.yaml")
    return comment_at(f"{file.path}:{file.lines[(key,)]}") if (key,) in file.lines else ""


def _varied(composed: Composed, key: str) -> list[Written]:
    """Values that a sweep or the stages of a chain put in its place."""
    sweep, found = composed.cfg.get("sweep") or {}, []
    for name, values in (sweep.get("params") or {}).items():
        if str(name).replace("/", ".") == key:
            found.append(Written(values, composed.origin(f"sweep.params.{name}")))
    for name, words in (sweep.get("cases") or {}).items():
        found += [
            Written(word.partition("=")[2], composed.origin(f"sweep.cases.{name}"))
            for word in words
            if str(word).lstrip("+").partition("=")[0].replace("/", ".") == key
        ]
    for number, stage in enumerate(composed.cfg.get("stages") or []):
        for word in stage["words"] if isinstance(stage, dict) else stage:
            if str(word).lstrip("+").partition("=")[0].replace("/", ".") == key:
                found.append(Written(word.partition("=")[2], composed.origin(f"stages.{number}")))
    return found


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(cfg, list) and part.isdigit() and int(part) < len(cfg):
            cfg = cfg[int(part)]
        elif isinstance(cfg, dict) and part in cfg:
            cfg = cfg[part]
        else:
            return ...
    return cfg


def _leaves(key: str, value: Any) -> list[tuple[str, Any]]:
    """Keys below a mapping with their values; empty for anything else."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items() if isinstance(value, dict) else ():
        below = _leaves(f"{key}.{name}", item)
        found += below or [(f"{key}.{name}", item)]
    return found
