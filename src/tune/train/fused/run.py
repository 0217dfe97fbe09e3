"""The story of a group of trials that train as one; `experiment` tells that of one run.

prepare    once, for all: rows, split, network, what is frozen
make       each trial's own head, loss, optimizer and schedule
begin      every trial's run folder, run.json with status "running"
fit, test  K heads at a time, as many as there is memory for
finish     each trial's weights, metrics and predictions, run.json with the result
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tune.batch import Batch
from tune.data.pixels import free_bytes
from tune.evaluate.metrics import tell
from tune.evaluate.predict import write_predictions
from tune.evaluate.threshold import find_threshold
from tune.losses.penalties import share_at_zero
from tune.models.weights_file import WeightsFile, note_threshold
from tune.run_dir import atomic_write, read_json
from tune.talk import say
from tune.train import screen
from tune.train.callbacks.history import write_history
from tune.train.callbacks.loggers import quiet_lightning, run_log
from tune.train.devices.trainer import build_trainer
from tune.train.ensemble.boosting import Boosting, all_members
from tune.train.experiment import Job, begin, keeps_part
from tune.train.fused.group import is_member
from tune.train.fused.learner import FusedLearner
from tune.train.fused.optim import CannotFuse
from tune.train.fused.trial import Trial, make_trial
from tune.train.interrupt import Interrupted, OwnSignals, interruptible
from tune.train.prepare import Prepared, prepare
from tune.train.record import Record, common_facts

Say = Callable[[str], None]
EXIT_DIVERGED = 5


def run_group(jobs: list[dict[str, Any]]) -> int:
    """Train the trials of a group as one, in a process of their own. Returns the exit code.

    Args:
        jobs: of each trial what `run_trial` takes; their configs have the same `group.fuse_key`.

    Raises:
        CannotFuse: before any folder is written, if they must train one by one after all.
        ConfigError: if one of the configs does not fit; the trial says so itself when it runs alone.
    """
    is_boosted = is_member(jobs[0]["config"])
    everyone = all_members(jobs) if is_boosted else jobs
    prepared = prepare(_shared([job["config"] for job in everyone]))
    _require_fusable(prepared, everyone)
    trials = [make_trial(job, prepared) for job in everyone]
    at_once = 1 if is_boosted else _at_once(trials, prepared)
    _rehearse(trials[:at_once], prepared)
    for line in screen.first_screen(prepared, jobs[0]["config"]["name"], jobs[0]["choices"]):
        say(line)
    say(f"fused     {len(trials)} heads, {min(at_once, len(trials))} at a time")
    started = time.time()
    records = [begin(Job(**trial.job), prepared)[1] if trial.job["run_dir"] else None for trial in trials]
    boosting = Boosting(prepared) if is_boosted else None
    ended = 0
    with run_log(Path(jobs[0]["run_dir"]), echo=True), quiet_lightning(), interruptible():
        try:
            prepared.frozen.fill(say)
            for start in range(0, len(trials), at_once):
                some = trials[start : start + at_once]
                if boosting is not None:
                    boosting.begin()
                learner = _train(some, prepared)
                facts = {} if boosting is None else {"boost": boosting.end(learner)}
                for trial, record in zip(some, records[start:], strict=False):
                    if record is not None:
                        _finish(trial, record, prepared, (time.time() - started) / len(trials), facts)
                    ended += 1
        except Interrupted as error:
            for record in filter(None, records[ended:]):
                if read_json(record.run_dir / "run.json")["status"] == "running":
                    record.end("interrupted", error.exit_code, str(error))
            return error.exit_code
    return 0


def _shared(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A config for what the trials have in common: smoothing is each trial's own, views are those of the longest."""
    first = configs[0]
    regularize = {**first["regularize"], "label_smoothing": 0.0}
    return {**first, "regularize": regularize, "epochs": max(config["epochs"] for config in configs)}


def _require_fusable(prepared: Prepared, jobs: Sequence[dict[str, Any]]) -> None:
    """Look at what only the built parts tell.

    Raises:
        CannotFuse: if the trials must train one by one.
    """
    seeds = {job["config"]["seed"] for job in jobs}
    orders = {(job["config"]["seed"], job["config"]["data"].get("bootstrap")) for job in jobs}
    if len(prepared.phases) > 1 or prepared.phases[0].trained != {"head"} or prepared.frozen.encoders[0] is None:
        raise CannotFuse(f"more than the head trains, or the backbone is not cut: {prepared.frozen.describe()}")
    if prepared.precision.trainer not in ("32-true", "bf16-mixed"):
        raise CannotFuse(f"{prepared.precision.trainer} scales gradients, or weights are not in fp32")
    if prepared.data.mixes or (len(seeds) > 1 and prepared.data.changes_pixels):
        raise CannotFuse("images are mixed, or changed in another way for each seed")
    if len(orders) > 1 and not prepared.frozen.is_kept:
        raise CannotFuse(f"each trial has its own order of rows, and images are not kept: {prepared.frozen.describe()}")


def _at_once(trials: Sequence[Trial], prepared: Prepared) -> int:
    """How many heads fit into half of the memory that is free."""
    network, classes = prepared.network, len(prepared.table.classes)
    orders = len({trial.order for trial in trials})
    rows = prepared.config["batch_size"]
    width = network.backbone.feature_dim
    weights = sum(parameter.numel() for parameter in network.head.parameters())
    inner = sum(max(parameter.shape) for parameter in network.head.parameters())
    numbers = (
        6 * weights
        + 8 * max(len(prepared.parts.val), len(prepared.parts.test)) * classes
        + rows * (6 * inner + (2 * width if orders > 1 else 0))
    )
    free = torch.cuda.mem_get_info()[0] if prepared.device == "cuda" else free_bytes()
    return max(1, free // 2 // (4 * numbers))


def _rehearse(trials: Sequence[Trial], prepared: Prepared) -> None:
    """Take every loss and head through one step on rows of noise, so that what cannot be fused is known before."""
    classes, width = len(prepared.table.classes), prepared.network.backbone.feature_dim
    labels = torch.arange(4) % classes
    probs = torch.nn.functional.one_hot(labels, classes).float()
    parts = (torch.randn(4, width), labels, probs, torch.ones(4), torch.arange(4))
    try:
        learner = FusedLearner(trials, prepared, say)
        device = learner.heads.stacked[0].device
        batch = Batch(*(part.to(device).expand(len(learner.orders), *part.shape) for part in parts))
        learner.terms(batch.images, batch, step=0)["loss"].sum().backward()
    except CannotFuse:
        raise
    except Exception as error:  # whatever vmap makes of a loss or a head that it does not know
        raise CannotFuse(f"vmap refuses it: {error}".splitlines()[0]) from error


def _train(trials: Sequence[Trial], prepared: Prepared) -> FusedLearner:
    """Fit the heads of some trials, and test the best of each."""
    learner = FusedLearner(trials, prepared, say)
    trainer = build_trainer(
        {**prepared.config["trainer"], "accelerator": {"cuda": "gpu"}.get(prepared.device, prepared.device)},
        epochs=max(trial.config["epochs"] for trial in trials),
        precision=prepared.precision.trainer,
        callbacks=[OwnSignals()],
        loggers=[],
        root=Path(prepared.config["output"]),
    )
    data = prepared.data
    trainer.fit(learner, data.several_orders(learner.orders), data.val_dataloader())
    if learner.load_best() and len(prepared.parts.test):
        trainer.test(learner, data.test_dataloader(), verbose=False)
    return learner


def _finish(trial: Trial, record: Record, prepared: Prepared, seconds: float, facts: dict[str, Any]) -> None:
    """Write what a trial leaves behind, as `experiment` does for one that ran alone."""
    table, run_dir, threshold = prepared.table, trial.run_dir, None
    if trial.rows:
        write_history(run_dir / "metrics.csv", trial.rows)
    if trial.best:
        partial = keeps_part(Job(**trial.job), prepared)
        prepared.network.head.load_state_dict(trial.weights)
        WeightsFile(run_dir, prepared.unchanged if partial else frozenset()).write(prepared.network)
        assert trial.predictions is not None
        index, labels, probs = trial.predictions
        threshold = find_threshold(trial.config["threshold"], probs, labels)
        note_threshold(run_dir, threshold)
        path = run_dir / "predictions" / "val.csv"
        write_predictions(path, table.names, table.classes, index, labels, probs, threshold)
    atomic_write(run_dir / "run.log", "".join(f"{line}\n" for line in trial.story()))
    if trial.status != "done":
        record.end(trial.status, EXIT_DIVERGED if trial.status == "diverged" else 1, trial.cause, seconds=seconds)
        return
    result: dict[str, Any] = {"best_epoch": trial.best["epoch"], "metrics": dict(trial.best["metrics"]), **facts}
    result["threshold"] = threshold
    if trial.regularize.l1 or trial.regularize.l2:
        result["weights_at_zero"] = share_at_zero(trial.weights.values())
    if trial.tested is not None:
        index, labels, probs, loss = trial.tested
        path = run_dir / "predictions" / "test.csv"
        write_predictions(path, table.names, table.classes, index, labels, probs, threshold)
        result = tell(result, common_facts(prepared)["counts"], probs, labels, loss, threshold)
    record.end("done", 0, seconds=round(seconds, 3), **result)
    trial.forget()
