"""`tune rank`: which backbone, and which of its layers, suits the data of an experiment, before anything trains."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of
from tune.config import files, gate
from tune.config.across.domains import is_source_free
from tune.config.compose import Composed, ConfigTree, compose
from tune.errors import ConfigError, Problem, RunError, TuneError
from tune.run_dir import find_run, read_json, run_id
from tune.talk import say

if TYPE_CHECKING:
    from tune.train.choose.rank import Candidate, Score

_PARTLY = 3
_COLUMNS = {"log_me": "LogME", "h_score": "H-score", "leep": "LEEP", "knn": "kNN", "probe": "probe"}


def rank(words: list[str]) -> int:
    """`tune rank [overrides] --backbones A,B,… | --runs [RUN …]`. Returns the exit code."""
    asked = _parser().parse_intermixed_args(words)
    overrides = [word for word in asked.words if "=" in word or word.startswith("~")]
    runs = [word for word in asked.words if word not in overrides]
    if runs and not asked.runs:
        raise ConfigError(Problem(runs[0], "is no override. Runs are named with --runs, backbones with --backbones"))
    if not asked.runs and not asked.backbones:
        raise ConfigError(Problem("tune rank", "says nothing to compare: --backbones A,B,… or --runs"))
    tree = ConfigTree.find(asked.config_dir)
    composed = _of_backbones(tree, overrides, asked.backbones) if asked.backbones else {}
    notes: list[str] = []
    from_runs: dict[str, Path] = {}
    if asked.runs:
        found, from_runs = _of_runs(tree, overrides, runs, asked.allow, notes)
        composed |= found
    from tune.cli.run import check_all

    check_all(list(composed.values()), tree, asked.allow)
    from tune.train.choose.rank import Candidate

    candidates = [
        Candidate(name, each.cfg, each.overrides, each.choices, from_runs.get(name)) for name, each in composed.items()
    ]
    return _rank(candidates, notes, asked)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "rank",
        "Compare frozen backbones on the data of an experiment, before anything trains.",
        "configs",
        "allow",
        "one",
    )
    parser.add_argument("words", nargs="*", help="overrides; with --runs also runs (all finished ones by default)")
    parser.add_argument("--backbones", metavar="A,B,…", help="options of backbone; keys behind colons: A:weights=none")
    parser.add_argument("--runs", action="store_true", help="compare the backbones of finished runs")
    parser.add_argument("--layers", action="store_true", help="score four layers below the output too, in one pass")
    parser.add_argument("--check", action="store_true", help="train a head on each, and correlate")
    return parser


def _of_backbones(tree: ConfigTree, overrides: list[str], listed: str) -> dict[str, Composed]:
    """A config for each backbone that was listed, by its name."""
    names = [name.strip() for name in listed.split(",")]
    for name in names:
        if not name or names.count(name) > 1:
            raise ConfigError(Problem("--backbones", f"lists {name or 'an empty name'} twice" if name else "is empty"))
    found = {}
    for name in names:
        option, *keys = name.split(":")
        found[name] = _frozen(tree, overrides, [f"backbone={option}", *(f"backbone.{key}" for key in keys)])
    return found


def _of_runs(
    tree: ConfigTree, overrides: list[str], runs: list[str], allow: list[str], notes: list[str]
) -> tuple[dict[str, Composed], dict[str, Path]]:
    """A config for the backbone of each finished run, and where the runs lie; by their names."""
    import yaml

    base = _frozen(tree, overrides, [])
    output = Path(base.cfg["output"])
    run_dirs = [find_run(run, output) for run in runs]
    listed = run_dirs or sorted(path.parent for path in output.glob("*/*/run.json"))
    found, places, problems = {}, {}, []
    for run_dir in dict.fromkeys(listed):
        name = f"run {run_id(run_dir)}"
        config: Any = (
            yaml.safe_load((run_dir / "config.yaml").read_text()) if (run_dir / "config.yaml").is_file() else {}
        )
        node = config.get("backbone", {})
        why = _unfit(run_dir, node)
        if why:
            problems.append(Problem(name, why))
            continue
        if refused := gate.problems({"backbone": node}, gate.allowed_by_user(allow)):
            raise ConfigError(*refused)
        node = {**node, "weights": f"run:{run_dir.absolute()}"}
        each = replace(base, cfg={**base.cfg, "backbone": node}, choices={**base.choices, "backbone": name})
        each.overrides = [*base.overrides, f"backbone.weights=run:{run_id(run_dir)}"]
        found[name], places[name] = each, run_dir
    if problems and (runs or not found):
        raise ConfigError(*problems)
    if not found:
        raise ConfigError(Problem("--runs", f"there is no finished run in {output}/"))
    if problems:
        notes.append(f"left out: {', '.join(f'{problem.key} ({problem.text})' for problem in problems)}")
    return found, places


def _unfit(run_dir: Path, node: dict[str, Any]) -> str:
    """Why a run's backbone cannot be used; empty when it can."""
    if read_json(run_dir / "run.json")["status"] != "done" or not (run_dir / "model.safetensors").is_file():
        return "did not finish"
    if not node or (run_dir / "ensemble.json").is_file():
        return "is an ensemble, not one network"
    return "is a pair of backbones, which are not taken from a run" if "first" in node else ""


def _frozen(tree: ConfigTree, overrides: list[str], words: list[str]) -> Composed:
    """The experiment with some words more, and a frozen backbone."""
    if any(word.lstrip("+~").startswith(("freeze=", "freeze.")) for word in overrides):
        raise ConfigError(
            Problem("freeze", "has no effect: backbones are compared frozen. Leave it out", "command line")
        )
    composed = compose(tree, [*overrides, *words])
    if composed.is_sweep:
        raise ConfigError(Problem("tune rank", "needs one run, and this is a sweep or an ensemble"))
    if is_source_free(composed.cfg):
        text = "source_free trains no head, by which frozen backbones are compared: transfer=statistics"
        raise ConfigError(Problem("transfer", text, composed.origin("transfer")))
    # What an experiment sets for another depth must not stand in the way, so that the option's own file counts.
    composed.cfg["freeze"] = dict(files.read(tree.file("freeze", "deep")).data)
    composed.overrides.append("freeze=deep")
    composed.choices["freeze"] = "deep"
    return composed


def _rank(candidates: list[Candidate], notes: list[str], asked: argparse.Namespace) -> int:
    from tune.train.choose.rank import rank as rank_one

    found: list[Score] = []
    known: dict[str, str] = {}
    failed: list[TuneError] = []
    for candidate in candidates:
        try:
            ranked = rank_one(candidate, asked.layers, asked.allow, say)
        except (ConfigError, RunError) as error:
            failed.append(error)
            notes.append(f"{candidate.name} was not ranked: {error}")
            continue
        if candidate.run_dir is not None and ranked.digest in known:
            notes.append(f"{candidate.name} has the weights of {known[ranked.digest]}")
        if ranked.digest:
            known.setdefault(ranked.digest, candidate.name)
        found += ranked.scores
        notes += ranked.notes
        rows = ranked.rows
    if not found:
        raise failed[0]
    found.sort(key=lambda score: -score.log_me)
    for line in table(found):
        print(line)
    print(f"sorted by LogME; of all scores higher is better. LogME, H-score, LEEP: {rows[0]:,} training rows; ", end="")
    print(f"kNN, probe: accuracy on {rows[1]:,} validation rows")
    for note in notes:
        print(f"note: {note}")
    answer: dict[str, Any] = {"status": "done", "sorted_by": "log_me", "scores": [vars(score) for score in found]}
    answer |= {"train_rows": rows[0], "val_rows": rows[1], "notes": notes}
    is_whole = not failed
    if asked.check:
        answer["check"], all_done = _check(candidates, [score for score in found if score.layer == "output"])
        is_whole &= all_done
    if asked.json:
        print(json.dumps(answer))
    return 0 if is_whole else _PARTLY


def table(found: list[Score]) -> list[str]:
    """The scores as lines, under a head."""
    width = max(len(score.backbone) for score in found)
    deep = max(5, *(len(score.layer) for score in found))
    lines = [f"{'backbone':<{width}}  {'layer':<{deep}} {'D':>6} {'LogME':>8} {'H-score':>8} {'LEEP':>8} {'kNN':>6} "]
    lines[0] += f"{'probe':>6} {'ms/image':>9}"
    for score in found:
        leep = "" if score.leep is None else f"{score.leep:.3f}"
        numbers = f"{score.dim:>6,} {score.log_me:>8.3f} {score.h_score:>8.3f} {leep:>8} {score.knn:>6.3f}"
        lines.append(f"{score.backbone:<{width}}  {score.layer:<{deep}} {numbers} {score.probe:>6.3f} {score.ms:>9.1f}")
    return lines


def _check(candidates: list[Candidate], found: list[Score]) -> tuple[dict[str, Any], bool]:
    """Train the head on each backbone, and say how far the scores told the result. Whether all of them ended well."""
    from tune.train.choose.rank import correlations
    from tune.train.experiment import Job, execute

    by_name = {score.backbone: score for score in found}
    runs, real, scored = [], [], []
    for candidate in candidates:
        if candidate.name not in by_name:
            continue
        outcome = execute(Job(candidate.config, candidate.overrides, candidate.choices), say)
        runs.append({"backbone": candidate.name, "run_dir": str(outcome.run_dir), "status": outcome.status})
        if outcome.status == "done":
            runs[-1]["accuracy"] = outcome.metrics["val/accuracy"]
            real.append(outcome.metrics["val/accuracy"])
            scored.append(by_name[candidate.name])
    width = max((len(score.backbone) for score in scored), default=0)
    for score, accuracy in sorted(zip(scored, real, strict=True), key=lambda pair: -pair[1]):
        print(f"trained   {score.backbone:<{width}}  val/accuracy {accuracy:.3f}")
    answer: dict[str, Any] = {"runs": runs}
    if len(real) < 2:
        print("check     a correlation needs two backbones or more")
        return answer, len(real) == len(runs)
    answer["correlation"] = {}
    for name, (tau, r, count) in correlations(scored, real).items():
        answer["correlation"][name] = {"kendall": _number(tau), "pearson": _number(r), "n": count}
        print(f"check     {_COLUMNS[name]:<8} Kendall {_shown(tau)}   Pearson {_shown(r)}   n = {count}")
    return answer, len(real) == len(runs)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _shown(value: float) -> str:
    return "     -" if math.isnan(value) else f"{value:+.3f}"
