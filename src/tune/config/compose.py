"""From words to the plain dict that a run receives.

    composed = compose(ConfigTree(), ["experiment=quickstart", "lr=1e-3"])
    trials = expand(ConfigTree(), ["experiment=quickstart", "lr=1e-3,1e-2", "freeze=deep,mid"])

Hydra says which files make up a run and in which order, once per distinct choice of groups; they are merged by
OmegaConf, as Hydra would, without the config of Hydra itself, which takes as long as all of ours. Values of single keys
go onto copies. The command line beats the experiment, which beats the options, which beat run.yaml.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tune.config import complaints, grid, overrides
from tune.config.across import repeats, stages
from tune.config.overrides import Axis, Change
from tune.config.provenance import Layers, Origin
from tune.config.tree import ConfigTree
from tune.errors import ConfigError, Problem

__all__ = ["Composed", "ConfigTree", "compose", "expand"]


@dataclass
class Composed:
    """One run, composed.

    Args:
        cfg: the whole config, plain and resolved.
        unresolved: the same with every `${…}` as it was written.
        origin: who wrote a dotted key: "command line", FILE:LINE, or "" for nobody.
        overrides: the words that give this config again.
        swept: those of them that differ between the trials of a sweep.
        choices: the option of every group, `experiment` included if there is one, and `case` in a sweep of cases.
        shadowed: options for which the user's file stood before a shipped one, as `group/option`.
        problems: what went wrong on the way; `check` reports them with its own.
        missing: groups whose option does not exist; what would stand below them is not known.
        stages: of a chain, each composed; empty for any other run.
    """

    cfg: dict[str, Any]
    origin: Origin
    overrides: list[str]
    choices: dict[str, str]
    swept: list[str] = field(default_factory=list)
    shadowed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    unresolved: dict[str, Any] = field(default_factory=dict)
    stages: list[Composed] = field(default_factory=list)

    @property
    def is_sweep(self) -> bool:
        """Whether the config itself asks for several runs; `expand` gives them."""
        sweep = self.cfg.get("sweep")
        own = isinstance(sweep, dict) and (sweep.get("params") or sweep.get("cases"))
        return bool(own) or bool(repeats.words(self.cfg))


@dataclass
class _Base:
    """What Hydra gives for one choice of groups; values may still hold `${…}`."""

    cfg: dict[str, Any]
    choices: dict[str, str]
    shadowed: list[str]
    has_interpolations: bool
    layers: Layers
    problems: list[Problem]


def compose(tree: ConfigTree, words: list[str]) -> Composed:
    """One run.

    Raises:
        ConfigError: if a file cannot be read, or Hydra cannot put the files together.
    """
    axes, problems = overrides.parse(tree, words)
    for axis in axes:
        if axis.is_swept:
            problems.append(complaints.needs_multirun(axis))
    changes = [axis.changes[0] for axis in axes]
    composer = _Composer(tree)
    composed = composer.run(changes, words, [])
    composed.problems = problems + composed.problems
    return composed


def expand(tree: ConfigTree, words: list[str]) -> list[Composed]:
    """All trials of a sweep, the last key varying fastest.

    An experiment's own `sweep.cases` and `sweep.params` are expanded too, inside those of the command line; a key that
    the command line sets is taken from there.

    Raises:
        ConfigError: as `compose`; and if the words cannot be read, since it is unknown then what to expand.
    """
    axes, problems = overrides.parse(tree, words)
    if problems:
        raise ConfigError(*problems)
    composer = _Composer(tree)
    given = {axis.changes[0].target for axis in axes}
    trials: list[Composed] = []
    for picked in itertools.product(*(axis.changes for axis in axes)):
        swept = [change.text for change, axis in zip(picked, axes, strict=True) if axis.is_swept]
        words = [change.text for change in picked]
        outer = composer.run(list(picked), words, swept)
        inner, problems = grid.params(tree, outer.cfg, outer.origin, given)
        targets = {axis.changes[0].target for axis in inner}
        cases, wrong = grid.cases(tree, outer.cfg, outer.origin, given, targets)
        outer.problems += [*problems, *wrong]
        for case in cases:
            for trial, chosen in _inside(composer, outer, list(picked), case, inner):
                again, problems = overrides.parse(tree, repeats.words(trial.cfg), repeats.WHERE)
                trial.problems += [*problems, *repeats.problems(trial.cfg, trial.swept)]
                trials += [one for one, _ in _inside(composer, trial, chosen, grid.Case(), again)]
    return trials


def _inside(
    composer: _Composer, outer: Composed, changes: list[Change], case: grid.Case, axes: list[Axis]
) -> Iterator[tuple[Composed, list[Change]]]:
    """Each point of some axes in a trial and case, with the changes that led to it; the trial itself without either."""
    if not axes and not case.name:
        yield outer, changes
        return
    of_case = [change.text for change in case.changes]
    for more in itertools.product(*(axis.changes for axis in axes)):
        together = [*changes, *case.changes, *more]
        words = [*outer.overrides, *of_case, *(change.text for change in more)]
        varying = [change.text for change, axis in zip(more, axes, strict=True) if axis.is_swept]
        trial = composer.run(together, words, [*outer.swept, *of_case, *varying])
        trial.problems += [problem for problem in outer.problems if problem not in trial.problems]
        trial.choices |= {"case": outer.choices["case"]} if "case" in outer.choices else {}
        trial.choices |= {"case": case.name} if case.name else {}
        if isinstance(trial.cfg.get("sweep"), dict):
            trial.cfg["sweep"] |= {"params": {}, "cases": {}}  # a trial is one run
        yield trial, together


class _Composer:
    """Composes each choice of groups once."""

    def __init__(self, tree: ConfigTree) -> None:
        self.tree = tree
        self.bases: dict[tuple[str, ...], _Base] = {}
        self.known = set(tree.defaults())

    def run(self, changes: list[Change], words: list[str], swept: list[str]) -> Composed:
        problems: list[Problem] = []
        missing: set[str] = set()
        choices: list[Change] = []
        for change in changes:
            if change.is_choice:
                wrong = complaints.wrong_choice(self.tree, change)
                if wrong is None:
                    choices.append(overrides.as_choice(change, self.known))
                else:
                    problems.append(wrong)
                    missing.add(change.group)
        base = self._base(tuple(choice.text for choice in choices))
        problems += base.problems
        cfg = deepcopy(base.cfg)
        for change in changes:
            if not change.is_choice:
                wrong = overrides.apply(change, cfg)
                if wrong is not None:
                    problems.append(wrong)
        if cfg.get("name") is None:
            cfg["name"] = base.choices.get("experiment", "run").replace("/", "-")
        origin, unresolved = Origin(base.layers, changes), cfg
        if base.has_interpolations or any("${" in word for word in words):
            unresolved = deepcopy(cfg)
            problems += _resolved(cfg, origin)
        composed = Composed(
            cfg=cfg,
            origin=origin,
            overrides=list(words),
            choices=dict(base.choices),
            swept=swept,
            shadowed=base.shadowed,
            problems=problems,
            unresolved=unresolved,
            missing=missing | {problem.key for problem in base.problems},
        )
        stages.compose_stages(composed, changes, self.tree, self.run)
        return composed

    def _base(self, choices: tuple[str, ...]) -> _Base:
        if choices not in self.bases:
            self.bases[choices] = self._compose(choices)
        return self.bases[choices]

    def _compose(self, choices: tuple[str, ...]) -> _Base:
        """Compose; an option that a file chooses and that does not exist is replaced, so that the rest is checked.

        Raises:
            ConfigError: if the files cannot be put together at all.
        """
        problems: list[Problem] = []
        instead: list[str] = []
        defaults = self.tree.defaults()
        while True:
            try:
                base = _compose(self.tree, (*choices, *instead))
            except (HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
                if added := _added(choices, error):
                    choices = added
                    continue
                problem = complaints.from_hydra(self.tree, choices, error)
                word = f"{problem.key}={defaults.get(problem.key)}"
                if problem.key not in defaults or word in instead:
                    raise ConfigError(*problems, problem) from error
                problems.append(problem)
                instead.append(word)
                continue
            base.problems = problems
            return base


def _added(choices: tuple[str, ...], error: Exception) -> tuple[str, ...] | None:
    """The choices with a "+" before the one for a package that Hydra did not find in the defaults of any file."""
    sought = re.match(r"Could not override '([^']+@[^']+)'", str(error))
    if sought is None or not any(choice.startswith(f"{sought[1]}=") for choice in choices):
        return None
    return tuple(f"+{choice}" if choice.startswith(f"{sought[1]}=") else choice for choice in choices)


def _compose(tree: ConfigTree, choices: tuple[str, ...]) -> _Base:
    layers, picked = Layers.of(tree, choices)
    cfg = layers.together()
    shadowed = [] if not tree.shadows("", "run") else ["run"]
    for group, option in picked.items():
        folder = group.partition("@")[0]
        if option in tree.options(folder) and tree.shadows(folder, option):
            shadowed.append(f"{folder}/{option}")
    return _Base(
        cfg=cfg,
        choices={group: option for group, option in picked.items() if option != "None"},
        shadowed=shadowed,
        has_interpolations="${" in str(cfg),
        layers=layers,
        problems=[],
    )


def _resolved(cfg: dict[str, Any], origin: Callable[[str], str]) -> list[Problem]:
    """Fill in every `${…}`, in place; what leads nowhere is reported, key by key."""
    problems: list[Problem] = []
    whole = OmegaConf.create(cfg)
    for keys in list(_interpolated(cfg)):
        holder, found = cfg, whole
        try:
            for key in keys[:-1]:
                holder, found = holder[key], found[key]
            value: Any = found[keys[-1]]
        except OmegaConfBaseException as error:
            dotted = ".".join(str(key) for key in keys)
            problems.append(Problem(dotted, str(error.msg or error).splitlines()[0], origin(dotted)))
        else:
            holder[keys[-1]] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    return problems


def _interpolated(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values stand that hold `${…}`."""
    if isinstance(value, str):
        if "${" in value:
            yield keys
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _interpolated(item, (*keys, key))
