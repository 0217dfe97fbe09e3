"""A chain: `stages` of an experiment, each a list of words, become whole configs here.

    stages:
      - [data.types=poly]
      - [data.types=mono, data.split.per_class=50]

Each stage is the same experiment with its own words. What stands on the command line stands in every stage, before the
words of the stage too. Stage k starts from the backbone of stage k - 1, with a new head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tune.config import overrides
from tune.config.across import repeats
from tune.config.overrides import Axis, Change
from tune.config.signature.source import Found, find, signature
from tune.config.tree import ConfigTree
from tune.errors import Problem

if TYPE_CHECKING:
    from tune.config.compose import Composed

WEIGHTS = "backbone.weights"
_OF_THE_CHAIN = ("experiment", "name", "output", "sweep", "stages", "ensemble", "expected")
_NONE = Change("stages=[]", "", "stages", [], is_choice=False)


def stage_name(number: int) -> str:
    """How a stage is called in messages, counted from 1."""
    return f"stage {number}"


def compose_stages(
    composed: Composed,
    changes: list[Change],
    tree: ConfigTree,
    run: Callable[[list[Change], list[str], list[str]], Composed],
) -> None:
    """Compose each stage of a run, in place: `composed.stages`, and `stages` of its config.

    There a stage is a mapping: `words` (its own, as far as they count), `choices` and `config`, which has no stages.

    Args:
        composed: the run, with the words of its stages.
        changes: of the command line.
        tree: where options are looked up.
        run: composes changes and words to a run, as `compose` does.
    """
    asked = composed.cfg.get("stages")
    if not isinstance(asked, list) or not asked:
        return
    if problems := list(_misshapen(asked, composed.origin)):
        composed.problems += problems
        return
    given = {change.target for change in changes}
    typed = [change for change in changes if change.target != "stages"]
    found = []
    for number, words in enumerate(asked, start=1):
        axes, problems = overrides.parse(tree, words, composed.origin(f"stages.{number - 1}"))
        problems += [problem for axis in axes if (problem := _refusal(axis, number))]
        own = [axis.changes[0] for axis in axes if axis.changes[0].target not in given]
        texts = [change.text for change in [*own, *typed, _NONE]]
        stage = run([*own, *typed, _NONE], texts, [])
        stage.problems = [*problems, *stage.problems]
        if isinstance(stage.cfg.get("sweep"), dict):
            stage.cfg["sweep"] |= {"params": {}, "cases": {}}
        if repeats.words(stage.cfg) and not repeats.words(composed.cfg):
            text = "asks for several runs; a stage is one run"
            stage.problems.append(Problem("data.split.folds", text, stage.origin("data.split.folds")))
        if problem := _cannot_follow(stage):
            stage.problems.append(problem)
        composed.stages.append(stage)
        found.append(
            {"words": [change.text for change in own], "choices": dict(stage.choices), "config": stage.cfg},
        )
    composed.cfg["stages"] = found


def gathered(before: Iterable[Problem], found: list[list[Problem]]) -> list[Problem]:
    """The problems of a chain, each once: what all stages have is the experiment's, the rest is said of its stage.

    Args:
        before: problems of the experiment itself.
        found: problems of each stage.
    """
    shared = [problem for problem in found[0] if all(problem in each for each in found)]
    own = [
        Problem(f"{stage_name(number)}: {problem.key}", problem.text, problem.where)
        for number, problems in enumerate(found, start=1)
        for problem in problems
        if problem not in shared
    ]
    return list(dict.fromkeys([*before, *shared, *own]))


def _misshapen(asked: list[Any], origin: Callable[[str], str]) -> Iterator[Problem]:
    for number, words in enumerate(asked):
        if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
            text = "must be a list of words, as in [data.types=mono, freeze=full]"
            yield Problem(stage_name(number + 1), text, origin(f"stages.{number}"))
    if len(asked) == 1:
        yield Problem(
            "stages", "one stage is an ordinary run: set its words in the experiment itself", origin("stages")
        )


def _refusal(axis: Axis, number: int) -> Problem | None:
    change = axis.changes[0]
    if axis.is_swept:
        text = "has several values; a stage is one run. Sweep from the command line: -m KEY=A,B"
    elif change.key.split("@")[0].split(".")[0] in _OF_THE_CHAIN:
        text = "cannot be set in a stage: it is the whole chain's"
    elif change.target == WEIGHTS and number > 1:
        text = f"cannot be set here: {stage_name(number)} starts from {stage_name(number - 1)}. Set it in stage 1"
    else:
        return None
    return Problem(change.key, text, change.where)


def _cannot_follow(stage: Composed) -> Problem | None:
    """What to say of a backbone that cannot start from another stage."""
    node = stage.cfg.get("backbone")
    found = find(node["_target_"]) if isinstance(node, dict) and isinstance(node.get("_target_"), str) else ""
    if not isinstance(found, Found) or "weights" in signature(found).parameters:
        return None
    text = f"backbone={stage.choices.get('backbone', '')} has no key `weights`, by which a stage starts from another"
    return Problem("backbone", text, stage.origin("backbone"))
