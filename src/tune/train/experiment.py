"""READ THIS FIRST: the story of a run on one page.

    prepare      read the labels, decode every image once, split; build the network, what is frozen, the learner
    announce     the first screen
    begin        make the run folder: config.yaml, overrides.txt, run.json with status "running"
    fit          Lightning trains and validates every epoch; the best and the last are kept
    finish       the best weights are tested, predictions, metrics and pictures written, run.json gets the result

`execute` tells it for one run, in the process that called it; of a chain, for each stage. A sweep calls `run_trial` in
a process of its own.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import EarlyStopping

from tune.errors import ConfigError, Problem, TuneError
from tune.losses.penalties import share_at_zero
from tune.models.interface import FittedHead
from tune.models.weights_file import WeightsFile, describe
from tune.run_dir import atomic_write, create_run_dir, epochs_behind, read_json, write_yaml
from tune.talk import say
from tune.train import screen
from tune.train.adapt.beside import with_source
from tune.train.adapt.guard import guard
from tune.train.adapt.sight import LearnerSight
from tune.train.callbacks.audit import FreezeAudit
from tune.train.callbacks.average import Average
from tune.train.callbacks.finite import FiniteLoss
from tune.train.callbacks.history import History
from tune.train.callbacks.keep_best import KeepBest
from tune.train.callbacks.loggers import build_loggers, quiet_lightning, run_log
from tune.train.callbacks.monitor import Monitor
from tune.train.callbacks.progress import Progress
from tune.train.choose.auto import noted, taken_over
from tune.train.devices.ranks import Ranks
from tune.train.devices.trainer import build_trainer, world_size
from tune.train.finished.beside_test import with_measures
from tune.train.fitted.run import fit_once
from tune.train.fused.group import is_member
from tune.train.interrupt import OwnSignals, interruptible, judge
from tune.train.objective import is_maximized
from tune.train.pictures.draw import draw_pictures
from tune.train.prepare import Prepared, prepare
from tune.train.probe.rate import settle_rate
from tune.train.record import Record, describe_network, facts_of, masked, with_test

Say = Callable[[str], None]
LOG = logging.getLogger("tune")


@dataclass
class Job:
    """One run that was asked for, as plain data.

    Args:
        config: the composed and checked config.
        overrides: words of the command line that made it.
        choices: option chosen in each group.
        run_dir: its folder, where it has one already (a trial, a resumed run).
        resume: go on from the last checkpoint in `run_dir`.
        record: what run.json of a trial in a sweep must hold besides; empty for a run on its own.
        reproduces: id of the run that this one is to come out as.
    """

    config: dict[str, Any]
    overrides: list[str] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    run_dir: str = ""
    resume: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    reproduces: str = ""


@dataclass
class Outcome:
    """How a run ended: its folder and what run.json says of it."""

    run_dir: Path
    status: str
    exit_code: int
    cause: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    threshold: float | None = None
    chain: dict[str, Any] = field(default_factory=dict)


def execute(job: Job, say: Say) -> Outcome:
    """Run one experiment from its config to its result.

    Args:
        job: what to run.
        say: prints a line for the user.

    Raises:
        ConfigError: if it cannot start; then no run folder exists.
    """
    if job.config["stages"]:
        from tune.train.chain.run import run_chain

        return run_chain(job, say)
    ranks = Ranks(world_size(job.config["trainer"]), follow=lambda run_dir: _follow(job, run_dir))
    try:
        prepared = prepare(with_source(job.config, say))
        settle_rate(prepared, job.run_dir if job.resume else "", say)
        for line in screen.first_screen(prepared, job.config["name"], job.choices):
            say(line)
        run_dir, record = begin(job, prepared)
    except BaseException:
        ranks.stop(kill=True)
        raise
    say(screen.where(run_dir))
    with run_log(run_dir, echo=bool(job.record)), quiet_lightning(), interruptible():
        _note_audit(prepared, say)
        ranks.start(run_dir, on_death=lambda cause: _die(record, cause))
        try:
            result = _train(job, prepared, run_dir, say)
            draw_pictures(prepared, run_dir, say, is_trial=bool(job.record))
            record.end("done", 0, **result)
        except BaseException as error:
            ranks.stop(kill=True)
            status, code, cause = judge(error)
            LOG.error("the run ended: %s", cause, exc_info=error)
            record.end(status, code, cause)
        else:
            ranks.stop()
    return outcome_of(run_dir)


def run_trial(job: dict[str, Any]) -> int:
    """What a sweep asks of a process: a trial, some that train as one, or what comes last. Gives the exit code."""
    if "together" in job or is_member(job.get("config", {})):
        from tune.train.fused.run import run_group

        return run_group(job.get("together", [job]))
    if "config" not in job:
        _close(job)
        return 0
    asked = Job(**job)
    run_dir = Path(asked.run_dir)
    try:
        return execute(asked, say).exit_code
    except TuneError as error:
        record = Record(run_dir, {"name": asked.config["name"], "overrides": asked.overrides, **asked.record})
        record.end("failed", error.exit_code, str(error))
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def _close(job: dict[str, Any]) -> None:
    """What comes after the trials of a sweep: the best is made whole, members become one."""
    from tune.evaluate.loaded import complete
    from tune.train.ensemble.combine import combine

    if job["complete"]:
        complete(Path(job["complete"]), job["allow"])
    for each in job["combine"]:
        combine([Path(path) for path in each["runs"]], each["how"], Path(each["folder"]))


def outcome_of(run_dir: Path) -> Outcome:
    """What run.json says came of a run."""
    record = read_json(run_dir / "run.json")
    known = {
        key: record[key]
        for key in ("status", "exit_code", "cause", "metrics", "intervals", "counts", "seconds", "threshold", "chain")
        if key in record
    }
    return Outcome(run_dir, **known)


def begin(job: Job, prepared: Prepared) -> tuple[Path, Record]:
    """Make the run folder, or take up the one of a run that is resumed."""
    facts = facts_of(prepared, job)
    if job.resume:
        run_dir = Path(job.run_dir)
        before = read_json(run_dir / "run.json")
        for key, what in (("data", "the data"), ("weights", "the backbone's weights")):
            if before[key] != facts[key]:
                raise ConfigError(Problem(str(run_dir), f"{what} changed since this run began; start it anew instead"))
        facts["epochs_before"] = epochs_behind(run_dir)
        record = Record(run_dir, facts, seconds_before=before.get("seconds", 0.0))
    else:
        run_dir = Path(job.run_dir) if job.run_dir else create_run_dir(Path(job.config["output"]), job.config["name"])
        run_dir.mkdir(parents=True, exist_ok=True)
        record = Record(run_dir, facts)
        write_yaml(run_dir / "config.yaml", masked(noted(job.config, prepared.choice)))
        atomic_write(run_dir / "overrides.txt", "".join(f"{word}\n" for word in job.overrides))
        describe(run_dir, describe_network(prepared, partial=keeps_part(job, prepared)))
    record.start()
    return run_dir, record


def _train(job: Job, prepared: Prepared, run_dir: Path, say: Say) -> dict[str, Any]:
    """Fit, then test the best. Returns what run.json tells of it."""
    config, last = prepared.config, run_dir / "checkpoints" / "last.ckpt"
    weights = WeightsFile(run_dir, prepared.unchanged if keeps_part(job, prepared) else frozenset())
    if isinstance(prepared.network.head, FittedHead):
        return fit_once(prepared, run_dir, weights, say)
    names, classes = prepared.table.names, prepared.table.classes
    keep = KeepBest(run_dir, config["objective"], names, classes, weights, config["threshold"])
    regularize = prepared.regularize
    callbacks = [OwnSignals(), FiniteLoss(), FreezeAudit(say), History(run_dir), Progress(keep, say)]
    if config["monitor"]:
        callbacks.insert(-1, Monitor(run_dir, say))
    if regularize.ema or regularize.swa:
        callbacks.insert(0, Average(regularize.ema, regularize.swa))
    if patience := regularize.early_stopping:
        mode = "max" if is_maximized(config["objective"]) else "min"
        gain = regularize.min_delta
        callbacks.append(EarlyStopping(config["objective"], gain, patience, mode=mode, check_finite=False))
    trainer = build_trainer(
        {**config["trainer"], "accelerator": {"cuda": "gpu", "xla": "tpu"}.get(prepared.device, prepared.device)},
        epochs=config["epochs"],
        precision=prepared.precision.trainer,
        callbacks=[*callbacks, keep],
        loggers=build_loggers(config, run_dir, say) if prepared.rank == 0 else [],
        root=run_dir,
    )
    prepared.frozen.fill(say)
    learner = prepared.learner
    learner.sight = sight = LearnerSight(prepared)
    for line in learner.transfer.prepare(sight):
        say(line)
    resumed = last if job.resume and last.exists() else None
    if job.resume and resumed is None:
        say("note: no epoch was behind it, so there is no checkpoint; it begins anew")
    trainer.fit(prepared.learner, datamodule=prepared.data, ckpt_path=resumed, weights_only=True)
    best = torch.load(run_dir / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    learner.require_all(best["state_dict"])
    learner.load_state_dict(best["state_dict"], strict=False)
    for line in learner.transfer.finish(learner.network, sight):
        say(line)
    if learner.network.align is not None:
        weights.write(learner.network)
    result: dict[str, Any] = {"best_epoch": keep.best["epoch"], "metrics": dict(keep.best["metrics"])}
    result["threshold"] = keep.best["threshold"]
    if regularize.l1 or regularize.l2:
        result["weights_at_zero"] = zeros = share_at_zero(w for w in prepared.network.parameters() if w.requires_grad)
        say(f"weights   {100 * zeros:.1f} % of those that train are at zero (|w| < 1e-4)")
    if len(prepared.parts.test):
        trainer.test(prepared.learner, dataloaders=prepared.data.test_dataloader(), verbose=False)
        result = with_test(result, prepared, run_dir, {k: float(v) for k, v in trainer.callback_metrics.items()})
        for line in prepared.learner.answers.lines("test"):
            say(line)
        result = with_measures(result, prepared, run_dir, say)
    result |= guard(job.config, learner, run_dir, say)
    if job.record and prepared.rank == 0:
        for path in (run_dir / "checkpoints").iterdir():
            path.unlink()  # a finished trial keeps its result and what it learned, not the state of its optimizer
    return result


def keeps_part(job: Job, prepared: Prepared) -> bool:
    """Whether model.safetensors leaves out what is frozen: in a sweep, where the weights can be had again."""
    return bool(job.record) and bool(prepared.network.backbone.weights_digest)


def _follow(job: Job, run_dir: Path) -> None:
    """The same story on another rank of a distributed run: everything but the telling."""
    with run_log(run_dir, echo=True), quiet_lightning():
        _train(job, prepare(taken_over(job.config, run_dir), decode=False), run_dir, say=lambda line: None)


def _note_audit(prepared: Prepared, say: Say) -> None:
    for line in screen.audit_summary(prepared):
        say(line)
    for line in screen.audit_table(prepared):
        LOG.info(line)


def _die(record: Record, cause: str) -> None:
    """Another rank is gone: this one would wait for it for ever, in code that hears no signal."""
    record.end("failed", 1, cause)
    print(f"error: {cause}", file=sys.stderr, flush=True)
    os._exit(1)
