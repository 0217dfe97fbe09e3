"""`tune ls`, `tune cat` and `tune validate`: look at configs without running them.

Torch is imported for a curve (`--plot`) alone.
"""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
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


ELSEWHERE = {"backbones": "configs.backbones"}
"""What `tune ls` lists besides groups: a word, and the module below tune.cli whose `ls(tree, filter, as_json)` does."""


def ls(words: list[str]) -> int:
    """`tune ls [GROUP] [FILTER]`: what there is to choose from. Returns the exit code."""
    if listed.is_about_results(words):
        return listed.ls(words)
    about = "List groups, their options, experiments, and with backbones also the models of timm; runs, cache."
    parser = parser_of("ls", about, "configs")
    what = f"one group alone, experiments, {', '.join(ELSEWHERE)}, runs, cache; any other word filters all groups"
    parser.add_argument("group", nargs="?", default="", help=what)
    parser.add_argument("filter", nargs="?", default="", help="what names or sentences must hold")
    asked = parser.parse_intermixed_args(words)
    tree = ConfigTree.find(asked.config_dir)
    if asked.group in ELSEWHERE:
        module = importlib.import_module(f"tune.cli.{ELSEWHERE[asked.group]}")
        return module.ls(tree, str(asked.filter), as_json=asked.json)
    group, text = "experiment" if asked.group == "experiments" else str(asked.group), str(asked.filter)
    names = [*tree.groups(), "experiment"]
    is_filter = bool(group) and group not in names and not text
    shown = [group] if group in names else names
    sentences = {name: matching(tree, name, group if is_filter else text) for name in shown}
    if not any(sentences.values()) or (group and group not in names and not is_filter):
        raise ConfigError(_nothing(group, text, [*names, *ELSEWHERE]))
    if asked.json:
        print(json.dumps({name: options for name, options in sentences.items() if options or not is_filter}))
        return 0
    default = tree.defaults()
    for name, options in sentences.items():
        width = max((len(option) for option in options), default=0)
        if len(shown) > 1 and options:
            print(name)
        for option, sentence in options.items():
            print(f"  {option:<{width}} {'*' if default.get(name) == option else ' '} {sentence}".rstrip())
        if len(shown) > 1 and options:
            print()
    say("* chosen by default. Choose another with GROUP=OPTION; a named run with experiment=NAME")
    return 0


def matching(tree: ConfigTree, group: str, text: str) -> dict[str, str]:
    """Options of a group with their sentences; those that hold a text, in capitals or not."""
    found = {option: tree.sentence(group, option) for option in tree.options(group)}
    return {name: what for name, what in found.items() if text.lower() in f"{name} {what}".lower()}


def _nothing(group: str, text: str, names: list[str]) -> Problem:
    if group in names or group == "experiment":
        return Problem(text, f"no option of {group} has this in its name or sentence", "command line")
    close = nearest(group, names)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(names)}"
    return Problem(group, f"is no group, and nothing has it in its name or sentence. {hint}", "command line")


def cat(words: list[str]) -> int:
    """`tune cat [EXPERIMENT] [overrides]` prints a composed config, `tune cat GROUP OPTION` a file. Returns the code.

    `--plot scheduler` draws the learning rate over the run instead.
    """
    parser = parser_of(
        "cat",
        "Print the config that an experiment and overrides give, or the file of one option (tune cat freeze mid).",
        "configs",
    )
    parser.add_argument("words", nargs="*", help="an experiment, overrides, or GROUP OPTION")
    parser.add_argument("--resolve", action="store_true", help="fill in every ${…}; without it they stand as written")
    parser.add_argument("--plot", choices=["scheduler"], help="draw the learning rate over the run instead")
    asked = parser.parse_intermixed_args(words)
    tree = ConfigTree.find(asked.config_dir)
    named = [word for word in asked.words if not is_override(word)]
    if named and (len(named) > 1 or named[0] not in tree.experiments()):
        file = _option_file(tree, named)
        if asked.plot or named != asked.words:
            raise ConfigError(Problem("/".join(named), "is a file; overrides go with an experiment", "command line"))
        print(file.read_text(encoding="utf-8"), end="")
        return 0
    from tune.config.compose import compose

    composed = compose(tree, with_experiment(asked.words))
    if composed.problems:
        raise ConfigError(*composed.problems)
    if asked.plot:
        return _plot_scheduler(composed, tree, asked.json)
    cfg = composed.cfg if asked.resolve else composed.unresolved
    if asked.json:
        print(json.dumps(cfg))
    else:
        import yaml

        print(yaml.safe_dump(cfg, sort_keys=False, allow_unicode=True, width=120), end="")
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
    deep = "build every network without weights and data: layer names, shapes, whether head and loss fit"
    parser.add_argument("--deep", action="store_true", help=deep)
    asked = parser.parse_intermixed_args(words)
    named = [word for word in asked.words if not is_override(word)] or ["all"]
    overrides = [word for word in asked.words if is_override(word)]
    problems: dict[Problem, None] = {}
    checked, deeper = [], _deeper() if asked.deep else None
    for tree, name, choice in _asked_for(named, asked.config_dir):
        found = _problems(
            tree, [*choice, *overrides], asked.allow, is_option=not name.startswith("experiment="), deeper=deeper
        )
        checked.append(name)
        if not found and not asked.json:
            print(f"ok  {name}")
        problems |= {Problem(each.key, f"{each.text}  [{name}]", each.where): None for each in found}
    if problems:
        raise ConfigError(*problems)
    if asked.json:
        print(json.dumps({"status": "ok", "checked": checked}))
    return 0


def is_override(word: str) -> bool:
    """Whether a word of a command line sets something, and names nothing."""
    return "=" in word or word.startswith(("+", "~"))


def with_experiment(words: list[str]) -> list[str]:
    """The same words, with the bare name of an experiment written as an override."""
    return [word if is_override(word) else f"experiment={word}" for word in words]


def _option_file(tree: ConfigTree, words: list[str]) -> Path:
    group, _, option = "/".join(words).partition("/")
    if not option:
        raise ConfigError(
            Problem(group, f"is no experiment, override or option: tune cat {group} OPTION", "command line")
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


Deeper = Callable[["Composed"], list[Problem]]


def _deeper() -> Deeper:
    """Looks for what only the network tells; torch is imported here."""
    from tune.train.doctor.shapes import Fitting

    fitting = Fitting()

    def look(run: Composed) -> list[Problem]:
        found = [(each.origin, problem) for each in run.stages or [run] for problem in fitting.problems(each.cfg)]
        return [Problem(each.key, each.text, each.where or origin(each.key)) for origin, each in found]

    return look


def _problems(
    tree: ConfigTree, words: list[str], allow: list[str], *, is_option: bool, deeper: Deeper | None
) -> list[Problem]:
    """Problems of one run or sweep; an option may leave a value to the user, as backbone=timm does with the name."""
    from tune.config.check import NEEDS, check
    from tune.config.compose import compose, expand

    try:
        first = compose(tree, words)
        runs: list[Composed] = expand(tree, words) if first.is_sweep and not first.problems else [first]
    except ConfigError as error:
        return error.problems
    found = dict.fromkeys(problem for run in runs for problem in check(run, tree, allow))
    if deeper is not None and not found:
        found = dict.fromkeys(problem for run in runs for problem in deeper(run))
        trained = [*words, "freeze=full"]  # some losses and penalties make sense only where layers train
        if found and is_option and not any(word.startswith("freeze=") for word in words):
            found = dict.fromkeys(_problems(tree, trained, allow, is_option=True, deeper=deeper)) and found
    return [problem for problem in found if not (is_option and problem.text.startswith(NEEDS))]
