"""`tune evaluate`: a finished run measured again: its test part as it is or under attack, or as `otherwise` says.

Torch is imported after everything that can be checked without it has been.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from pathlib import Path
from typing import Any

from tune.cli.arguments import parser_of
from tune.cli.models.otherwise import THRESHOLDS, is_otherwise, otherwise
from tune.config.across import attack as across
from tune.config.signature.annotations import type_of
from tune.config.signature.source import Found, find, signature
from tune.errors import ConfigError, Problem
from tune.run_dir import find_run, read_json, run_id, shown, write_json
from tune.talk import say
from tune.train.finished.config import members_of, read_config

_KEYS = ("attack", "eps", "steps", "rows", "teacher")


def evaluate(words: list[str]) -> int:
    """`tune evaluate RUN [data=OPTION …] [--attack NAME | --tta …]`. Returns the exit code."""
    parser = parser_of(
        "evaluate",
        "Measure a finished run, or an ensemble, again: on its test part or on other data.",
        "allow",
        "output",
    )
    parser.add_argument("run", help="run folder, start of its id, SWEEP#NUMBER, or latest")
    parser.add_argument(
        "--attack", metavar="NAME", help="fgsm, pgd (of the run itself), teacher (of the public network)"
    )
    parser.add_argument("--eps", metavar="E,E", help="largest changes of a pixel, in units of 1/255 (2,4,8)")
    parser.add_argument("--steps", metavar="N", help="of pgd and teacher (5)")
    parser.add_argument("--rows", metavar="N", help="test rows that are attacked, of each class its share (all)")
    parser.add_argument("--teacher", metavar="WEIGHTS", help="of the public network (those that the run started from)")
    parser.add_argument("--pictures", action="store_true", help="draw its surest mistakes, for tune report: pictures/")
    parser.add_argument("overrides", nargs="*", metavar="data=…", help="other data, of which every row is measured")
    parser.add_argument("--tta", action="store_true", help="mean over the image and its flips, as in training")
    parser.add_argument(
        "--calibrate", action="store_true", help="fit a temperature to validation rows, and say the ECE"
    )
    parser.add_argument(
        "--threshold", metavar="T", help=f"for the second of two classes: a number, or {', '.join(THRESHOLDS)}"
    )
    asked = parser.parse_intermixed_args(words)
    node = _node(asked)
    run_dir = find_run(asked.run, asked.output)
    members = members_of(run_dir, asked.output)
    if members and (alone := [key for key in ("attack", "pictures") if getattr(asked, key)]):
        text = f"is of one run, and this is an ensemble; take one of its members, as {run_id(members[0])}"
        raise ConfigError(*(Problem(f"--{key}", text, "command line") for key in alone))
    if is_otherwise(asked):
        return otherwise(asked, run_dir, list(node))
    from tune.train.finished.again import measure_again, measure_together, stand_up

    started = time.monotonic()
    if members:
        answer = measure_together(run_dir, asked.output, asked.allow)
        _tell(run_dir, answer)
        return _end(asked, run_dir, started, answer)
    config = read_config(run_dir, asked.allow)
    if problems := [Problem(_flag(key), text) for key, text in across.node_problems(node, config)]:
        raise ConfigError(*problems)
    try:
        prepared, threshold = stand_up(run_dir, config, node)
    except ConfigError as error:  # of the config it says evaluate.rows, of the command line --rows
        raise ConfigError(*(Problem(_flag(each.key), each.text, each.where) for each in error.problems)) from error
    if not node:
        answer = measure_again(prepared, threshold)
        _tell(run_dir, answer)
    else:
        from tune.config.schema import Evaluate
        from tune.train.finished.attacked import attack

        tally, about = attack(prepared, Evaluate(**node), threshold)
        metrics = {f"test/{name}": value for name, value in tally.metrics.items()}
        intervals = {f"test/{name}": value for name, value in tally.intervals.items()}
        answer = {**about, "metrics": metrics, "intervals": intervals}
        for line in table(answer):
            print(line)
        folder = run_dir / "attacks"
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{node['attack']}.json", answer)
        print(f"file      {shown(folder / node['attack'])}.json")
    if asked.pictures:
        from tune.train.pictures.draw import write_pictures

        drawn = write_pictures(prepared, run_dir)
        why = f", {drawn['map']['why']}" if drawn["map"]["why"] else ""
        print(f"pictures  {len(drawn['mistakes'])} mistakes in {shown(run_dir / 'pictures')}{why}")
    return _end(asked, run_dir, started, answer)


def _end(asked: argparse.Namespace, run_dir: Path, started: float, answer: dict[str, Any]) -> int:
    if asked.json:
        seconds = round(time.monotonic() - started, 3)
        told = {"run_dir": str(run_dir), "status": "done", "seconds": seconds, "metrics": answer["metrics"]}
        print(json.dumps(told))
    return 0


def table(answer: dict[str, Any]) -> list[str]:
    """What an attack did, ε by ε.

    Args:
        answer: as it stands in `attacks/NAME.json`.
    """
    how = [answer["attack"], *([answer["features"], f"of {answer['teacher']}"] if "teacher" in answer else [])]
    steps = f", {answer['steps']} steps" if "steps" in answer else ""
    lines = [f"attack    {' '.join(how)}{steps}   n = {answer['rows']}   {answer['seconds']:.0f} s"]
    lines.append(f"  {'eps':<8}{'success':<24}accuracy")
    lines.append(f"  {'clean':<8}{'–':<24}{answer['clean_accuracy']:.3f}")
    for eps in answer["eps"]:
        cells = [_cell(answer, f"test/attack_{name}@{eps:g}") for name in ("success", "accuracy")]
        lines.append(f"  {f'{eps:g}/255':<8}{cells[0]:<24}{cells[1]}")
    if blind := {eps: number for eps, number in answer["no_gradient"].items() if number}:
        told = ", ".join(f"{number} of {answer['rows']} rows at {eps}/255" for eps, number in blind.items())
        lines.append(f"note      no gradient for {told}: of these the attack says nothing")
    return lines


def _cell(answer: dict[str, Any], name: str) -> str:
    if name not in answer["metrics"]:
        return "–"
    low, high = answer["intervals"][name]
    return f"{answer['metrics'][name]:.3f} [{low:.3f}, {high:.3f}]"


def _tell(run_dir: Path, answer: dict[str, Any]) -> None:
    """Print the metrics, and on stderr those that are not what the run wrote down."""
    from tune.cli.run import result_line
    from tune.train.experiment import Outcome

    kept = {key: answer[key] for key in ("metrics", "intervals", "counts", "threshold")}
    print(result_line(Outcome(run_dir, "done", 0, **kept)))
    before = read_json(run_dir / "run.json")["metrics"]
    other = [
        f"{name} {value:.4f}, there {before[name]:.4f}"
        for name, value in answer["metrics"].items()
        if name in before and before[name] is not None and abs(value - before[name]) > 5e-5
    ]
    told = f"not as run.json of {run_id(run_dir)} has it: {'; '.join(other)}" if other else "as run.json has it"
    say(f"          {told}")


def _node(asked: argparse.Namespace) -> dict[str, Any]:
    """The flags as a node `evaluate`.

    Raises:
        ConfigError: with every flag that is not understood, out of range, or without effect.
    """
    texts = {key: text for key in _KEYS if (text := getattr(asked, key)) is not None}
    found = find("tune.config.schema.Evaluate")
    assert isinstance(found, Found)
    node, problems = {}, []
    for key, text in texts.items():
        value: Any = text
        if key == "eps":
            value = [_number(each) for each in text.split(",")]
        elif key in ("steps", "rows"):
            value = _number(text)
        node[key] = value
        complaints = type_of(signature(found), key).complaints(value)
        problems += [Problem(f"--{key}", complaint, "command line") for _, complaint in complaints]
    for key in across.without_effect(node):
        why = f"with --attack {node['attack']}" if "attack" in node else "without --attack fgsm, pgd or teacher"
        problems.append(Problem(f"--{key}", f"has no effect {why}: leave it out", "command line"))
    if problems:
        raise ConfigError(*problems)
    return node


def _number(text: str) -> int | float | str:
    """A number where it is one, else the text, of which the type will complain."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _flag(key: str) -> str:
    return key.replace("evaluate.", "--", 1) if key.startswith("evaluate.") else key
