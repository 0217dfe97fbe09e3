"""Every mistake that can be seen in the composed config, all in one list, without importing torch.

Keys and types are held against the signatures that the config names, read from their source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tune.config import files, gate, names, schema
from tune.config.across import attack, domains, fitted, idle, rate, stages
from tune.config.across.tasks import task_objectives, task_problems
from tune.config.compose import Composed
from tune.config.habits import PREFIXES, suggest
from tune.config.overrides import COMMAND_LINE
from tune.config.signature.annotations import type_of
from tune.config.signature.source import Found, Parameter, Signature, find, inherits, signature
from tune.config.signature.types import UNKNOWN, Fields, written
from tune.config.tree import ConfigTree
from tune.errors import Problem

NEEDS = "needs "
"""How the complaint begins about something that only the user can give: a value, or another choice beside it."""

MISSING = "???"
"""What a YAML writes for a value that somebody must give."""


def check(composed: Composed, tree: ConfigTree, allow: Iterable[str] = ()) -> list[Problem]:
    """Every problem of one composed run, each once, in the order of its keys; of a chain, those of every stage.

    Args:
        composed: the run.
        tree: where it was composed from.
        allow: modules that the user allowed on the command line; those of ./pyproject.toml are added.

    Raises:
        ConfigError: if what the user allowed makes no sense.
    """
    if composed.stages:
        before = [*composed.problems, *idle.overruled(composed)]
        return stages.gathered(before, [check(stage, tree, allow) for stage in composed.stages])
    checker = _Checker(composed, tree, gate.allowed_by_user(allow))
    told = {problem.key for problem in composed.problems}  # what follows from such a problem is not said again
    rest = [problem for problem in checker.problems() if problem.key not in told]
    told |= {problem.key for problem in rest}
    unread = [problem for problem in idle.problems(composed) if problem.key not in told]
    return list(dict.fromkeys([*composed.problems, *rest, *unread]))


def unknown_key(composed: Composed, tree: ConfigTree, key: str) -> Problem:
    """What to say of a key that nothing takes, with the nearest that something does."""
    return _Checker(composed, tree, gate.allowed_by_user()).unknown(key)


class _Checker:
    def __init__(self, composed: Composed, tree: ConfigTree, allow: list[str]) -> None:
        self.composed = composed
        self.tree = tree
        self.allow = allow
        self.run = _signature(schema.RUN)
        self.groups = tree.groups_of_run()

    def problems(self) -> Iterator[Problem]:
        cfg = self.composed.cfg
        for key, value in cfg.items():
            if key in self.groups:
                if not {key, "experiment"} & self.composed.missing:
                    yield from self.group(key, value)
            elif key in self.run.parameters:
                yield from self.typed(self.run, key, value, str(key))
            elif key not in self.composed.missing:
                yield from (self.unknown(leaf) for leaf in _leaves(str(key), value))
        yield from self.objective(cfg.get("objective"))
        for problem in task_problems(cfg, self.head_tells_tasks(cfg.get("head"))):
            yield self.problem(problem.key, problem.text)
        yield from fitted.problems(self.composed)
        for problem in [*domains.problems(cfg), *rate.problems(cfg)]:
            yield self.problem(problem.key, problem.text)
        yield from attack.problems(self.composed)
        for key in [*self.run.parameters, *self.groups]:
            if key not in cfg:
                yield self.problem(key, "cannot be left out; every run needs it")

    def group(self, group: str, node: Any) -> Iterator[Problem]:
        if not isinstance(node, dict):
            yield self.not_an_option(group, node)
            return
        target = node.get("_target_", schema.WITHOUT_TARGET.get(group))
        if target is None and (group not in schema.MAY_BE_EMPTY or node):
            yield self.problem(group, f"names no class: `_target_` is missing. Choose with {group}=…")
        elif target is not None:
            yield from self.node(group, group, node, target)

    def node(self, group: str, key: str, node: dict[str, Any], target: Any) -> Iterator[Problem]:
        """A mapping that names a class or function, and whatever it holds."""
        for name in gate.SPECIAL:
            if name in node:
                yield self.problem(f"{key}.{name}", "is not used here: remove it")
        found = self.found(target, node)
        if isinstance(found, str):
            yield self.problem(f"{key}._target_", found)
            return
        takes = signature(found)
        shared = _signature(schema.SHARED[key]) if key in schema.SHARED else None
        reserved = schema.reserved(group) if key == group else schema.facts(group)
        for name, value in node.items():
            inside = f"{key}.{name}"
            owner = next((each for each in (takes, shared) if each is not None and name in each.parameters), None)
            if name == "_target_" or name in gate.SPECIAL:
                continue
            if name in reserved:
                yield self.problem(inside, reserved[name])
            elif owner is not None:
                yield from self.typed(owner, name, value, inside)
                yield from self.named(group, inside, value)
                yield from self.nested(group, inside, value)
            elif not takes.is_open:
                yield self.unknown(inside)
        for name, parameter in takes.parameters.items():
            if parameter.is_required and name not in node and name not in reserved:
                yield self.problem(f"{key}.{name}", self.needed(group))

    def found(self, target: Any, node: dict[str, Any]) -> Found | str:
        if "_target_" in node:
            refused = gate.refusal(target, self.allow)
            if refused:
                return refused
        return find(target)

    def nested(self, group: str, key: str, value: Any) -> Iterator[Problem]:
        for inside, node in _with_target(value, key):
            found = self.found(node["_target_"], node)
            is_backbone = isinstance(found, Found) and inherits(found, schema.BACKBONE)  # wherever it stands: a teacher
            yield from self.node("backbone" if is_backbone else group, inside, node, node["_target_"])

    def typed(self, owner: Signature, name: str, value: Any, key: str) -> Iterator[Problem]:
        if value == MISSING:
            yield self.problem(key, self.needed(key.partition(".")[0]))
            return
        for place, text in type_of(owner, name).complaints(value):
            yield self.unknown(key + place) if text == UNKNOWN else self.problem(key + place, text)

    def named(self, group: str, key: str, value: Any) -> Iterator[Problem]:
        """Names that timm knows: of models and of optimizers."""
        known = names.KNOWN.get(key)
        if known is not None and isinstance(value, str) and value != MISSING:
            wrong = known(value)
            if wrong:
                yield self.problem(key, wrong)

    def objective(self, value: Any) -> Iterator[Problem]:
        known = [*(f"val/{metric}" for metric in schema.METRICS), *task_objectives(self.composed.cfg)]
        if isinstance(value, str) and value not in known:
            text = f"must be one of {', '.join(known)}, not {value!r}"
            if value.startswith(("test/", "train/")):
                text += (
                    f". Epochs and trials are chosen on validation rows, {value.partition('/')[0]} rows would flatter"
                )
            yield self.problem("objective", text)

    def head_tells_tasks(self, head: Any) -> bool:
        """Whether the head's signature names the tasks, as `multi_task` does."""
        found = self.found(head["_target_"], head) if isinstance(head, dict) and "_target_" in head else ""
        return isinstance(found, Found) and "tasks" in signature(found).parameters

    def not_an_option(self, group: str, node: Any) -> Problem:
        where = self.composed.origin(group)
        if not isinstance(node, str):
            return Problem(group, f"is a group of options, not {written(node)}: choose with {group}=OPTION", where)
        advice = f"{group}={node}" if where == COMMAND_LINE else f"`- override /{group}: {node}` under `defaults:`"
        return Problem(group, f"is a group of options; to choose one write {advice}", where)

    def unknown(self, key: str) -> Problem:
        """What to say of a key that nothing takes: the nearest that something does, and all that stand beside it."""
        known = self.known()
        meant = suggest(key, known)
        meant = "" if meant == key.partition(".")[0] else meant
        text = "unknown."
        above, _, name = key.rpartition(".")
        elsewhere = self.elsewhere(above, name)
        if elsewhere:
            text += f" It belongs to {elsewhere}."
        elif meant in known and known[meant] is not ...:
            text += f" Did you mean {meant}, now {written(known[meant])}?"
        elif meant:
            text += f" Did you mean {meant}{'=…' if meant in PREFIXES.values() else ''}?"
        beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == above] if above else []
        group, _, rest = above.partition(".")
        if beside or above in self.groups:
            option = f"{group}={self.composed.choices[group]}" if group in self.composed.choices else group
            text += f"  {option if not rest else above} takes: {', '.join(beside) or 'no keys'}"
        elif not meant:
            text += f" There are: {', '.join([*self.groups, *self.run.parameters])}"
        return self.problem(key, text)

    def elsewhere(self, group: str, name: str) -> str:
        """Options of the same group that take such a key."""
        found = []
        for option in self.tree.options(group) if group in self.groups else []:
            target = files.read(self.tree.file(group, option)).data.get("_target_")
            definition = self.found(target, {"_target_": target}) if target else ""
            if isinstance(definition, Found) and name in signature(definition).parameters:
                found.append(f"{group}={option}")
        return " and ".join(found)

    def known(self) -> dict[str, Any]:
        """Every key that would be right, with its value now; an Ellipsis where there is none to show."""
        known: dict[str, Any] = {}
        for name in self.run.parameters:
            known |= _flat(self.run, name, name, self.composed.cfg.get(name, ...))
        for group in self.groups:
            node = self.composed.cfg.get(group)
            known[group] = ...
            if not isinstance(node, dict):
                continue
            owners = [_signature(schema.SHARED[group])] if group in schema.SHARED else []
            target = node.get("_target_", schema.WITHOUT_TARGET.get(group))
            found = self.found(target, node) if target is not None else ""
            owners += [signature(found)] if isinstance(found, Found) else []
            reserved = schema.reserved(group)
            for owner in reversed(owners):
                for name, parameter in owner.parameters.items():
                    if name not in reserved:
                        known |= _flat(owner, name, f"{group}.{name}", node.get(name, _default(parameter)))
        return known

    def needed(self, group: str) -> str:
        option = self.composed.choices.get(group)
        return f"{NEEDS}a value, {group}={option} has no default for it" if option else f"{NEEDS}a value"

    def problem(self, key: str, text: str) -> Problem:
        return Problem(key, text, self.composed.origin(key))


def _flat(owner: Signature, name: str, key: str, value: Any) -> dict[str, Any]:
    """A key and, where its type is a dataclass, those below it."""
    flat = {key: value}
    kind = type_of(owner, name)
    if isinstance(kind, Fields):
        flat[key] = ...
        for inner, parameter in kind.fields.parameters.items():
            now = value.get(inner, _default(parameter)) if isinstance(value, dict) else _default(parameter)
            flat |= _flat(kind.fields, inner, f"{key}.{inner}", now)
    return flat


def _leaves(key: str, value: Any) -> Iterator[str]:
    """The keys that somebody wrote below an unknown one."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    else:
        yield key


def _default(parameter: Parameter) -> Any:
    return parameter.default_value


def _with_target(value: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The outermost mappings inside a value that name a class or function."""
    if isinstance(value, dict) and "_target_" in value:
        yield key, value
    else:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in items:
            yield from _with_target(item, f"{key}.{name}")


def _signature(dotted: str) -> Signature:
    found = find(dotted)
    assert isinstance(found, Found), found
    return signature(found)
