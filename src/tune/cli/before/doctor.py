"""`tune doctor`: what is wrong with a run, before the hours are spent."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tune.cli.arguments import parser_of, refuse_picture
from tune.cli.chain import runs_of
from tune.config.compose import ConfigTree, compose, expand
from tune.config.habits import nearest
from tune.errors import ConfigError, Problem
from tune.talk import counted, say
from tune.train.doctor.checks import CHECKS

_FAILED = 4


def doctor(words: list[str]) -> int:
    """`tune doctor [--flags] [overrides]`. Returns the exit code: 4 if a check failed."""
    parser = parser_of("doctor", "Look for what is wrong with a run before it starts.", "configs", "allow", "one")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides")
    parser.add_argument("--quick", action="store_true", help="fewer images and steps")
    parser.add_argument("--only", metavar="A,B", default="", help="these checks alone")
    parser.add_argument("--skip", metavar="A,B", default="", help="not these checks")
    parser.add_argument("--picture", metavar="FILE.png", default="", help="draw a batch as the network sees it")
    asked = parser.parse_intermixed_args(words)
    started = time.monotonic()
    names = _chosen(list(CHECKS), asked.only, asked.skip)
    tree = ConfigTree.find(asked.config_dir)
    composed = compose(tree, asked.overrides)
    if composed.is_sweep:
        composed = expand(tree, asked.overrides)[0]
        say(f"note: a sweep; its first trial is looked at: {' '.join(composed.overrides)}")
    if len(stages := runs_of(composed)) > 1:
        composed = stages[0][1]
        say("note: a chain; its first stage is looked at")
    from tune.config.check import check

    problems = check(composed, tree, asked.allow)
    if problems:
        raise ConfigError(*problems)
    if asked.picture:
        refuse_picture(Path(asked.picture))
    from tune.train.adapt.beside import before_training
    from tune.train.doctor.examine import examine

    first, *later = before_training(composed.cfg)
    if later:
        say("note: the source is learned first; that run is looked at")
    found = []
    width = max(len(name) for name in names)
    for finding in examine(first, names, quick=asked.quick, picture=asked.picture):
        print(finding.line(width), file=sys.stderr if asked.json else sys.stdout, flush=True)
        found.append(finding)
    failures, warnings = (sum(finding.status == status for finding in found) for status in ("FAIL", "WARN"))
    code = _FAILED if failures else 0
    seconds = time.monotonic() - started
    if asked.json:
        status = "failed" if failures else "ok"
        print(
            json.dumps({"status": status, "seconds": round(seconds, 1), "findings": [asdict(each) for each in found]})
        )
    else:
        print(f"{counted(failures, 'failure')}, {counted(warnings, 'warning')} in {seconds:.0f} s (exit {code})")
    return code


def _chosen(names: list[str], only: str, skip: str) -> list[str]:
    """Names of checks, in their order.

    Raises:
        ConfigError: if one is unknown, or none is left.
    """
    problems = []
    listed = {}
    for flag, text in (("--only", only), ("--skip", skip)):
        listed[flag] = [name.strip() for name in text.split(",") if name.strip()]
        for name in listed[flag]:
            if name not in names:
                near = nearest(name, names, 1)
                hint = f"Did you mean {near[0]}? " if near else ""
                problems.append(Problem(flag, f"there is no check {name}. {hint}There are: {', '.join(names)}"))
    left = [name for name in names if (not only or name in listed["--only"]) and name not in listed["--skip"]]
    if not left and not problems:
        problems.append(Problem("--skip", "no check is left"))
    if problems:
        raise ConfigError(*problems)
    return left
