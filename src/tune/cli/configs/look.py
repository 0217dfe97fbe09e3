"""`tune ls`, `tune cat` and `tune validate`: look at configs without running them.

Torch is imported for a curve (`--plot`) alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tune.cli.arguments import parser_of
from tune.cli.results import listed
from tune.config.habits import nearest
from tune.config.tree import ConfigTree, locate
from tune.errors import ConfigError, Problem
from tune.talk import say

if TYPE_CHECKING:
    from tune.config.compose import Composed


def ls(words: list[str]) -> int:
    """`tune ls [GROUP]`: what there is to choose from. Returns the exit code."""
    if listed.is_about_results(words):
        return listed.ls(words)
    parser = parser_of("ls", "List groups, their options, and experiments.", "configs")
    parser.add_argument("group", nargs="?", default="", help="one group alone, experiment, runs or cache")
    asked = parser.parse_intermixed_args(words)
    tree = ConfigTree.find(asked.config_dir)
    names = [*tree.groups(), "experiment"]
    if asked.group and asked.group not in names:
        close = nearest(asked.group, names)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(names)}"
        raise ConfigError(Problem(asked.group, f"is no group. {hint}", "command line"))
    shown = [asked.group] if asked.group else names
    sentences = {name: {option: tree.sentence(name, option) for option in tree.options(name)} for name in shown}
    if asked.json:
        print(json.dumps(sentences))
        return 0
    default = tree.defaults()
    for name, options in sentences.items():
        width = max((len(option) for option in options), default=0)
        if not asked.group:
            print(name)
        for option, sentence in options.items():
            print(f"  {option:<{width}} {'*' if default.get(name) == option else ' '} {sentence}".rstrip())
        if not asked.group:
            print()
    say("* chosen by default. Choose another with GROUP=OPTION; a named run with experiment=NAME")
    return 0


def cat(words: list[str]) -> int:
    """`tune cat [overrides]` prints a composed config, `tune cat GROUP OPTION` a file. Returns the exit code.

    `--plot scheduler` draws the learning rate over the run instead.
    """
    parser = parser_of(
        "cat",
        "Print the config that overrides give, or the file of one option (tune cat freeze mid).",
        "configs",
    )
    parser.add_argument("words", nargs="*", help="overrides, or GROUP OPTION")
    parser.add_argument("--plot", choices=["scheduler"], help="draw the learning rate over the run instead")
    asked = parser.parse_intermixed_args(words)
    tree = ConfigTree.find(asked.config_dir)
    if not asked.plot and asked.words and not any(_is_override(word) for word in asked.words):
        print(_option_file(tree, asked.words).read_text(encoding="utf-8"), end="")
        return 0
    from tune.config.compose import compose

    composed = compose(tree, asked.words)
    if composed.problems:
        raise ConfigError(*composed.problems)
    if asked.plot:
        return _plot_scheduler(composed, tree, asked.json)
    if asked.json:
        print(json.dumps(composed.cfg))
    else:
        import yaml

        print(yaml.safe_dump(composed.cfg, sort_keys=False, allow_unicode=True, width=120), end="")
    return 0


def _plot_scheduler(composed: Composed, tree: ConfigTree, as_json: bool) -> int:
    from tune.cli.configs import curve
    from tune.config.check import check

    keys = ("scheduler", "lr", "epochs", "epoch_steps")
    if problems := [problem for problem in check(composed, tree) if problem.key.partition(".")[0] in keys]:
        raise ConfigError(*problems)
    cfg, option = composed.cfg, composed.choices["scheduler"]
    if cfg["lr"] == "auto":
        raise ConfigError(Problem("lr", "is found when the run trains: type a number to draw a curve of it"))
    steps = curve.steps_per_epoch(cfg)
    rates, depends_on = curve.schedule_of(cfg)
    if as_json:
        print(json.dumps({"scheduler": option, "steps_per_epoch": steps, "lr": rates, "depends_on": depends_on}))
        return 0
    if depends_on:
        print(f"{option}   starts at lr {cfg['lr']:.3g}; what follows depends on the results ({depends_on}): no curve")
        return 0
    for line in [curve.describe(rates, option, steps), *curve.draw(rates, cfg["epochs"], _width())]:
        print(line)
    if not cfg["epoch_steps"]:
        print(f"drawn with {steps} steps per epoch, as no data were read; epoch_steps=N draws another number")
    return 0


def _width() -> int:
    """Characters of a line: of the terminal, or 72."""
    return shutil.get_terminal_size((72, 24)).columns


def validate(words: list[str]) -> int:
    """`tune validate [EXPERIMENT|FILE|all] [overrides]`: check without running. Returns the exit code.

    Raises:
        ConfigError: with the problems of everything that was checked.
    """
    parser = parser_of(
        "validate",
        "Check an experiment, a file, or everything that there is (all, the default).",
        "configs",
        "allow",
    )
    parser.add_argument("words", nargs="*", help="experiments, files, or all; overrides go for each")
    asked = parser.parse_intermixed_args(words)
    named = [word for word in asked.words if not _is_override(word)] or ["all"]
    overrides = [word for word in asked.words if _is_override(word)]
    problems: dict[Problem, None] = {}
    checked = []
    for tree, name, choice in _asked_for(named, asked.config_dir):
        found = _problems(tree, [*choice, *overrides], asked.allow, is_option=not name.startswith("experiment="))
        checked.append(name)
        if not found and not asked.json:
            print(f"ok  {name}")
        problems |= {Problem(each.key, f"{each.text}  [{name}]", each.where): None for each in found}
    if problems:
        raise ConfigError(*problems)
    if asked.json:
        print(json.dumps({"status": "ok", "checked": checked}))
    return 0


def _is_override(word: str) -> bool:
    return "=" in word or word.startswith(("+", "~"))


def _option_file(tree: ConfigTree, words: list[str]) -> Path:
    group, _, option = "/".join(words).partition("/")
    if not option:
        raise ConfigError(
            Problem(group, f"is neither an override nor an option: tune cat {group} OPTION", "command line")
        )
    return tree.file(group, option.removesuffix(".yaml"))


def _asked_for(named: list[str], config_dir: Path | None) -> Iterator[tuple[ConfigTree, str, list[str]]]:
    """Tree, name and choice of each thing to check."""
    for name in named:
        if name.endswith((".yaml", ".yml")) or Path(name).is_file():
            if not Path(name).is_file():
                raise ConfigError(Problem(name, "there is no such file", "command line"))
            folder, group, option = locate(Path(name))
            yield ConfigTree(folder), f"{group}={option}", _choice(group, option)
            continue
        tree = ConfigTree.find(config_dir)
        if name != "all":
            yield tree, f"experiment={name}", _choice("experiment", name)
            continue
        for group in tree.groups_of_run():
            for option in tree.options(group):
                yield tree, f"{group}={option}", _choice(group, option)
        for option in tree.experiments():
            yield tree, f"experiment={option}", _choice("experiment", option)


def _choice(group: str, option: str) -> list[str]:
    """Words that choose an option; everything else as in the default run, on data that need nothing from the user."""
    return [f"{group}={option}"] if group in ("experiment", "data") else ["data=synthetic", f"{group}={option}"]


def _problems(tree: ConfigTree, words: list[str], allow: list[str], *, is_option: bool) -> list[Problem]:
    """Problems of one run or sweep; an option may leave a value to the user, as backbone=timm does with the name."""
    from tune.config.check import NEEDS, check
    from tune.config.compose import compose, expand

    try:
        first = compose(tree, words)
        runs: list[Composed] = expand(tree, words) if first.is_sweep and not first.problems else [first]
    except ConfigError as error:
        return error.problems
    found = dict.fromkeys(problem for run in runs for problem in check(run, tree, allow))
    return [problem for problem in found if not (is_option and problem.text.startswith(NEEDS))]
