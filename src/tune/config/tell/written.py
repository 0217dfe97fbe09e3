"""An experiment as the text of a YAML file: over another one, with what differs, or with everything written out."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import yaml

from tune.config import files, overrides
from tune.config.across.idle import is_asked_for
from tune.config.compose import Composed, compose, expand
from tune.config.overrides import Change
from tune.config.tree import ConfigTree
from tune.errors import ConfigError, Problem


class _Dumper(yaml.SafeDumper):
    """YAML that `files.read` reads back as what it was: the text "1e-3" gets quotes, a date gets none."""


_Dumper.yaml_implicit_resolvers = files.RESOLVERS


def overlay(composed: Composed, tree: ConfigTree, base: str, words: list[str]) -> str:
    """A file that builds on an experiment and holds the changes of some words.

    Args:
        composed: the experiment with the words.
        tree: where it was composed from.
        base: name of the experiment.
        words: overrides.

    Raises:
        ConfigError: if a word takes a key away, which no file can do.
    """
    changes = _changes(tree, words)
    choices = {change.key: str(change.value) for change in changes if change.is_choice}
    added = {group for group in choices if not _is_there(group, composed, tree)}
    content: dict[str, Any] = {}
    for change in changes:
        if not change.is_choice:
            _put(content, *_whole(change, composed.unresolved))
    given = {change.target: change for change in changes}
    params, cases = _kept_of_sweep(composed, set(given))
    for name in _of_sweep(composed, "params"):
        if name not in params:  # one value is no sweep, and stands above that of the experiment
            text = given[str(name).replace("/", ".")].text.partition("=")[2]
            _put(content, ("sweep", "params"), {name: text})
    if cases != _of_sweep(composed, "cases"):
        _put(content, ("sweep", "cases"), cases)
    if composed.stages and (stages := _stages(composed)) != composed.origin.written("stages")[0].value:
        content["stages"] = stages
    first = f"As {base}{', with ' if words else ''}{' '.join(words)}."
    return _text(first, [f"/experiment/{base}", *_entries(choices, added), "_self_"], content)


def full(composed: Composed, tree: ConfigTree, base: str, words: list[str]) -> str:
    """A file that chooses every group and sets every key, so that it does not change with the experiment.

    Args:
        composed: the experiment with the words.
        tree: where it was composed from.
        base: name of the experiment.
        words: overrides.

    Raises:
        ConfigError: if a word takes a key away, which no file can do.
    """
    changes = _changes(tree, words)
    order = list(tree.defaults())
    choices = {group: option for group, option in composed.choices.items() if group != "experiment"}
    choices = dict(sorted(choices.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
    added = {group for group in choices if group not in order and not _is_inner(group, composed, tree)}
    whole, varied = deepcopy(composed.unresolved), _varied(composed)
    for group in choices:
        _node(whole, group.partition("@")[2] or group).pop("_target_", None)  # the option says it
    content = {key: value for key, value in whole.items() if key not in [*order, "name"]}
    for group in order:
        node = _own(composed, group, whole[group]) if group in varied else whole[group]
        content |= {group: node} if node else {}
    if composed.stages:
        content["stages"] = _stages(composed)
    params, cases = _kept_of_sweep(composed, {change.target for change in changes})
    content["sweep"] = {**content["sweep"], "params": params, "cases": cases}
    return _text(f"All of {' '.join([base, *words])}, written out.", _entries(choices, added), content)


def is_same(one: Composed, other: Composed, tree: ConfigTree, other_tree: ConfigTree) -> bool:
    """Whether two experiments mean the same runs, whatever they are called."""
    if one.is_sweep != other.is_sweep:
        return False
    if one.is_sweep:
        some, others = expand(tree, one.overrides), expand(other_tree, other.overrides)
        return [_nameless(each.cfg) for each in some] == [_nameless(each.cfg) for each in others]
    return _nameless(one.cfg) == _nameless(other.cfg)


def compose_file(tree: ConfigTree, name: str) -> Composed:
    """An experiment by its name.

    Raises:
        ConfigError: with what is wrong with it.
    """
    composed = compose(tree, [f"experiment={name}"])
    if composed.problems:
        raise ConfigError(*composed.problems)
    return composed


def _nameless(cfg: dict[str, Any]) -> dict[str, Any]:
    stages = [[stage["words"], _nameless(stage["config"])] for stage in cfg["stages"]]
    return {**cfg, "name": None, "stages": stages}


def _changes(tree: ConfigTree, words: list[str]) -> list[Change]:
    axes, problems = overrides.parse(tree, words)
    changes = [axis.changes[0] for axis in axes]
    for change in changes:
        if change.sign == "~":
            text = "takes a key away, which a file cannot say: set it to what it should be instead"
            problems.append(Problem(change.key, text, change.where))
        if change.key.partition("@")[0] == "experiment":
            problems.append(Problem("experiment", "the file builds on the one that you name first", change.where))
    if problems:
        raise ConfigError(*problems)
    return changes


def _is_there(group: str, composed: Composed, tree: ConfigTree) -> bool:
    """Whether the files below the command line choose from a group, so that the choice is to be overridden."""
    files_say = any(each.where != overrides.COMMAND_LINE for each in composed.origin.chosen(group, ""))
    return files_say or _is_inner(group, composed, tree)


def _is_inner(group: str, composed: Composed, tree: ConfigTree) -> bool:
    """Whether an option that is chosen has a group of this package in its own defaults, as backbone=pair does."""
    for outer, option in composed.choices.items():
        entries = files.read(tree.file(outer.partition("@")[0], option)).data.get("defaults")
        place = outer.partition("@")[2] or outer
        for entry in entries if isinstance(entries, list) and outer != "experiment" else []:
            name, _, package = str(next(iter(entry), "") if isinstance(entry, dict) else entry).partition("@")
            if group == f"{name.lstrip('/')}@{place}.{package}":
                return True
    return False


def _entries(choices: dict[str, str], added: set[str]) -> list[dict[str, str]]:
    """Of a defaults list; those that add a group stand first, as Hydra wants it."""
    new = [{f"/{group}": option} for group, option in choices.items() if group in added]
    return new + [{f"override /{group}": option} for group, option in choices.items() if group not in added]


def _varied(composed: Composed) -> set[str]:
    """Groups that a sweep or a stage chooses from. What an option says must not stay behind when another is chosen."""
    cases, stages = _of_sweep(composed, "cases").values(), _stages(composed)
    words = [*_of_sweep(composed, "params"), *(word for some in [*cases, *stages] for word in some)]
    return {str(word).lstrip("+").partition("=")[0] for word in words}


def _own(composed: Composed, key: str, node: Any) -> Any:
    """Of a node what no option says: what an experiment or the command line sets."""
    if isinstance(node, dict):
        inner = {name: _own(composed, f"{key}.{name}", value) for name, value in node.items()}
        return {name: value for name, value in inner.items() if value is not None} or None
    return node if is_asked_for(composed, key) else None


def _node(cfg: Any, key: str) -> dict[str, Any]:
    for part in key.split("."):
        cfg = cfg.get(part) if isinstance(cfg, dict) else None
    return cfg if isinstance(cfg, dict) else {}


def _whole(change: Change, cfg: dict[str, Any]) -> tuple[tuple[str, ...], Any]:
    """Keys and value of a change; where it is about an item of a list, the whole list: a file merges no items."""
    keys, node = tuple(change.key.split(".")), cfg
    for depth, key in enumerate(keys):
        if isinstance(node, list):
            return keys[:depth], node
        node = node[key]
    return keys, change.value


def _put(content: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
    old = content.get(keys[-1])
    content[keys[-1]] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else deepcopy(value)


def _of_sweep(composed: Composed, name: str) -> dict[str, Any]:
    return (composed.unresolved.get("sweep") or {}).get(name) or {}


def _kept_of_sweep(composed: Composed, given: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`params` and `cases` without what the command line sets, as it would take it from them."""
    params = {k: v for k, v in _of_sweep(composed, "params").items() if str(k).replace("/", ".") not in given}
    cases = {
        name: [word for word in words if word.lstrip("+").partition("=")[0].replace("/", ".") not in given]
        for name, words in _of_sweep(composed, "cases").items()
    }
    return params, cases


def _stages(composed: Composed) -> list[list[str]]:
    return [list(stage["words"]) for stage in composed.cfg["stages"] or []]


def _text(sentence: str, defaults: list[Any], content: dict[str, Any]) -> str:
    parts = [f"# @package _global_\n# {sentence}\n", _yaml({"defaults": defaults})]
    return "".join([*parts, f"\n{_yaml(content)}"] if content else parts)


def _yaml(content: dict[str, Any]) -> str:
    """Block style: a `${…}` does not parse inside braces."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text.replace("\n- ", "\n  - ") if list(content) == ["defaults"] else text
