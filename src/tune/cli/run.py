"""`tune run`, one run or a sweep, and `tune resume`.

Torch is imported after everything that can be checked without it has been; the driver of a sweep never imports it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of, positive_seconds, whole
from tune.cli.chain import folder_of, prepared_parts, refuse_changes, runs_of
from tune.cli.results.next import verdict_of
from tune.config import gate
from tune.config.across.domains import closes_source
from tune.config.across.idle import of_sweeps
from tune.config.across.latest import pin_latest
from tune.config.check import check
from tune.config.compose import Composed, ConfigTree, compose, expand
from tune.errors import ConfigError, Problem
from tune.run_dir import HIDDEN, epochs_behind, find_run, read_json, run_id, shown, write_yaml
from tune.talk import say
from tune.train.chain.report import beside_shown, lines
from tune.train.ensemble.plan import refuse_lone_members
from tune.train.objective import is_maximized

if TYPE_CHECKING:
    from tune.train.experiment import Job, Outcome

MAY_CHANGE_ON_RESUME = "data.workers; epochs with scheduler=constant or plateau"


def run(words: list[str]) -> int:
    """`tune run [--flags] [overrides]`. Returns the exit code."""
    asked = _run_parser().parse_intermixed_args(words)
    tree = ConfigTree.find(asked.config_dir)
    composed, is_sweep = [compose(tree, asked.overrides)], asked.multirun
    if asked.multirun or composed[0].is_sweep:
        composed, is_sweep = expand(tree, asked.overrides), True
    fingerprints = check_all(composed, tree, asked.allow)
    for option in dict.fromkeys(option for each in composed for option in each.shadowed):
        say(f"note: {option} is your own file; it stands before the shipped one")
    for line in filter(None, dict.fromkeys(pin_latest(each.cfg) for each in composed)):
        say(line)
    if is_sweep:
        return _sweep(asked, composed, fingerprints)
    refuse_lone_members([composed[0].cfg])
    for line in of_sweeps(composed[0]):
        say(line)
    if flag := next((name for name in ("jobs", "time_limit", "retry_failed", "fail_fast") if getattr(asked, name)), ""):
        raise ConfigError(f"--{flag.replace('_', '-')}: is for sweeps: tune run -m …")
    if word := next((word for word in asked.overrides if word.startswith("sweep.keep=")), ""):
        raise ConfigError(Problem(word, "is for sweeps: tune run -m …", "command line"))
    return _run_one(asked, composed[0], fingerprints[0])


def resume(words: list[str]) -> int:
    """`tune resume RUN [override]`. Returns the exit code."""
    parser = parser_of("resume", "Go on with a run that was killed or interrupted.", "allow", "output")
    parser.add_argument("run", help="run folder, start of its id, or latest")
    parser.add_argument("overrides", nargs="*", help=f"may change: {MAY_CHANGE_ON_RESUME}")
    asked = parser.parse_intermixed_args(words)
    run_dir = find_run(asked.run, asked.output)
    record = read_json(run_dir / "run.json")
    config = _resumed_config(run_dir, record, asked.overrides)
    if problems := gate.problems(config, gate.allowed_by_user(asked.allow)):
        raise ConfigError(*problems)
    from tune.train.experiment import Job, execute

    if record["status"] == "diverged":
        say(f"note: it diverged, and will again with the same config; what to change: tune next {run_id(run_dir)}")
    job = Job(config, record["overrides"], record["choices"], str(run_dir), resume=True)
    return _tell(execute(job, say), asked.json)


def _run_parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "run", "Train what a config says. Overrides are KEY=VALUE, GROUP=OPTION, experiment=NAME.", "configs", "allow"
    )
    parser.add_argument("overrides", nargs="*", help="Hydra overrides")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: lr=1e-4,1e-3 tries both")
    parser.add_argument("--dry-run", action="store_true", help="say what would run and about how long, then stop")
    parser.add_argument("--jobs", type=whole(1), help="trials at once (1)")
    parser.add_argument("--time-limit", type=positive_seconds, metavar="SECONDS", help="end a trial after so long")
    parser.add_argument("--retry-failed", action="store_true", help="run failed trials again")
    parser.add_argument("--fail-fast", action="store_true", help="start nothing more after a failure")
    return parser


def check_all(composed: list[Composed], tree: ConfigTree, allow: list[str]) -> list[str]:
    """Check every run; returns the fingerprint of each one's data.

    Raises:
        ConfigError: with all problems of all runs, each said once.
    """
    problems: dict[Problem, None] = {}
    judged: dict[str, tuple[list[Problem], str]] = {}
    fingerprints = []
    for each in composed:
        found = check(each, tree, allow)
        problems |= dict.fromkeys(found)
        is_sound = not any(problem.key.rpartition(": ")[2].startswith(("data", "experiment")) for problem in found)
        nodes = []
        for before, run in runs_of(each):
            node = json.dumps([run.cfg.get("data"), closes_source(run.cfg)], sort_keys=True)
            nodes.append(node)
            if is_sound and node not in judged:
                from tune.train.rows import judge  # numpy: 0.1 s that a mistake in the config need not wait for

                judged[node] = judge(run.cfg)
                problems |= {
                    Problem(before + problem.key, problem.text, problem.where or run.origin(problem.key)): None
                    for problem in judged[node][0]
                }
        fingerprints.append(" ".join(judged.get(node, ([], ""))[1] for node in nodes))
    if problems:
        raise ConfigError(*problems)
    return fingerprints


def _run_one(asked: argparse.Namespace, composed: Composed, fingerprint: str) -> int:
    from tune.train.experiment import Job, execute
    from tune.train.sweep.ledger import source_digest

    folder = folder_of(composed.cfg, fingerprint, source_digest(gate.allowed_by_user(asked.allow)))
    job = Job(composed.cfg, composed.overrides, composed.choices, folder)
    if asked.dry_run:
        return _dry_run(job, asked.json)
    return _tell(execute(job, say), asked.json)


def _sweep(asked: argparse.Namespace, composed: list[Composed], fingerprints: list[str]) -> int:
    from tune.cli.ensemble import last_job, shown_metrics, tell
    from tune.train.sweep.driver import Options, Trial, run_sweep
    from tune.train.sweep.ledger import ledger_key, source_digest, sweep_dir_of

    first = composed[0].cfg
    refuse_lone_members([each.cfg for each in composed])
    sweep_dir = sweep_dir_of(Path(first["output"]), first["name"], asked.overrides)
    modules = source_digest(gate.allowed_by_user(asked.allow))
    trials = [
        Trial(each.cfg, each.overrides, ledger_key(each.cfg, fingerprint, modules), each.choices)
        for each, fingerprint in zip(composed, fingerprints, strict=True)
    ]
    if asked.dry_run:
        from tune.train.experiment import Job

        for number, trial in enumerate(trials, 1):
            print(f"{number:>4}  {' '.join(trial.overrides)}")
        return _dry_run(Job(first, composed[0].overrides, composed[0].choices), asked.json, len(trials))
    result = run_sweep(
        trials,
        asked.overrides,
        output=Path(first["output"]),
        name=first["name"],
        objective=first["objective"],
        maximize=is_maximized(first["objective"]),
        options=Options(
            jobs=asked.jobs or first["sweep"]["jobs"],
            time_limit_s=asked.time_limit,
            retry_failed=asked.retry_failed,
            fail_fast=asked.fail_fast,
            show=shown_metrics(first["objective"]) + beside_shown(first),
            keep=first["sweep"]["keep"],
        ),
        say=say,
        answer=print,
        preload=["tune.train.experiment", "tune.train.fused.run", "tune.evaluate.loaded", "sklearn.model_selection"],
        last=lambda rows: last_job(rows, first["objective"], asked.allow, sweep_dir),
    )
    together = tell(result.rows, first["objective"], sweep_dir)
    if result.exit_code in (0, 3):
        name = sweep_dir.name.removeprefix("sweep-")
        say(f"next      tune report {name} · tune top {name}")
    if asked.json:
        print(json.dumps(result.as_json() | ({"ensembles": together} if together else {})))
    return result.exit_code


def _dry_run(job: Job, as_json: bool, trials: int = 1) -> int:
    from tune.train.estimate import estimate_seconds
    from tune.train.screen import audit_summary, first_screen

    seconds = 0.0
    for title, choices, prepared in prepared_parts(job):
        for line in [*title, *first_screen(prepared, job.config["name"], choices), *audit_summary(prepared)]:
            say(line)
        seconds += estimate_seconds(prepared)
    total = f", {trials} trials about {_duration(seconds * trials)}" if trials > 1 else ""
    say(f"cost      about {_duration(seconds)}{total}; nothing was started")
    if as_json:
        print(json.dumps({"status": "dry-run", "trials": trials, "seconds": round(seconds * trials, 1)}))
    return 0


def _resumed_config(run_dir: Path, record: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    import yaml

    from tune.run_dir import is_alive

    name = run_id(run_dir)
    if record["status"] == "done":
        raise ConfigError(Problem(name, "this run is done; nothing is left to resume"))
    if record["status"] == "running" and is_alive(record):
        raise ConfigError(Problem(name, f"this run is still running, as process {record['pid']}"))
    if "ledger_key" in record:
        raise ConfigError(Problem(name, "this is a trial: the command of its sweep runs again what is missing"))
    text = (run_dir / "config.yaml").read_text()
    if HIDDEN in text:
        raise ConfigError(Problem(name, f"config.yaml holds a secret that was not stored ({HIDDEN}); start anew"))
    config = yaml.safe_load(text)
    refuse_changes(name, config, overrides)
    for word in overrides:
        key, _, text = word.lstrip("+").partition("=")
        value, scheduler = yaml.safe_load(text), record["choices"].get("scheduler")
        if key == "data.workers" and isinstance(value, int) and value >= 0:
            config["data"]["workers"] = value
        elif key == "epochs" and isinstance(value, int) and value > 0 and scheduler in ("constant", "plateau"):
            if value < (behind := epochs_behind(run_dir)):
                raise ConfigError(Problem(key, f"{behind} epochs are behind this run already", "command line"))
            config["epochs"] = value
        else:
            raise ConfigError(
                Problem(
                    key,
                    f"a resumed run keeps its own config{_was(config, key)}. To continue it: tune resume {name}. "
                    f"To start anew from its weights: tune run {' '.join(record['overrides'])} "
                    f"backbone.weights=run:{name} {word}. May change: {MAY_CHANGE_ON_RESUME}",
                    "command line",
                )
            )
    if overrides:
        write_yaml(run_dir / "config.yaml", config)
    return config


def _was(config: dict[str, Any], key: str) -> str:
    """What a key was, as the end of a sentence; empty for one that is not there."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return "" if node is None or isinstance(node, dict) else f"; {key} was {node}"


def _tell(outcome: Outcome, as_json: bool) -> int:
    """Print how a run ended, and what to do next."""
    name = run_id(outcome.run_dir)
    if outcome.status == "done":
        print("\n".join([result_line(outcome), *lines(outcome.chain)]))
        print(f"done in {outcome.seconds:.0f} s     folder {shown(outcome.run_dir)}")
        use = f" · tune predict {name} PHOTOS" if (outcome.run_dir / "model.yaml").is_file() else ""
        say(f"next      tune report {name}{use}")
    else:
        next_step = f"continue with: tune resume {name}" if outcome.status == "interrupted" else ""
        log = f"log: {shown(outcome.run_dir / 'run.log')}"
        print(f"{outcome.status}: {outcome.cause}   {next_step or log}", file=sys.stderr, flush=True)
    verdict_of(outcome.run_dir, say)
    if as_json:
        answer = {
            "run_dir": str(outcome.run_dir),
            "status": outcome.status,
            "cause": outcome.cause,
            "seconds": outcome.seconds,
            "metrics": outcome.metrics,
        } | ({"chain": outcome.chain} if outcome.chain else {})
        print(json.dumps(answer))
    return outcome.exit_code


def result_line(outcome: Outcome) -> str:
    """What a run gave on its test part, or on validation where there is none."""
    part = "test" if "test/accuracy" in outcome.metrics else "val"
    words = []
    for name in ("accuracy", "balanced_accuracy", "auroc", "f1", "f1_macro"):
        key = f"{part}/{name}"
        if key in outcome.metrics and not (name == "f1_macro" and f"{part}/f1" in outcome.metrics):
            low_high = outcome.intervals.get(key)
            between = f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""
            words.append(f"{name} {outcome.metrics[key]:.3f}{between}")
    by = "" if outcome.threshold is None else f"   threshold {outcome.threshold:.3g}"
    return f"{part:<9} {'   '.join(words)}   n = {outcome.counts.get(part, 0)}{by}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
