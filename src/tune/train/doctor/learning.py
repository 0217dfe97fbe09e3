"""Checks of a short training: does it learn, does what should move move, at the right size."""

from __future__ import annotations

import copy
import math
import statistics
import time
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback

from tune.train.doctor.case import ROWS
from tune.train.doctor.finding import Finding, judged, listed
from tune.train.doctor.watch import silent_units
from tune.train.prepare import prepare
from tune.train.probe.lowered import lowered
from tune.train.probe.range_test import range_test, suggest
from tune.train.probe.rate import AUTO
from tune.train.probe.steps import train_steps, untouched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tune.train.doctor.case import Case

_FLAT, _STEEP = 1e-4, 1e4
_SILENT = 0.5
_TINY, _SLOW, _MUCH, _FAST = 1e-4, 0.02, 0.1, 0.5  # of the weights' size: in a step; in all of them; in a step
_DROWNED = 1.0
_RIGHT = 0.99
_BEYOND, _BELOW = 5.0, 300.0  # times: the steepest place of a short range test is known to about a factor of 5
_STILL, _RISE, _JUMP = 1.05, 1.5, 4.0
_LEAST, _PATIENCE = 40, {True: 10.0, False: 60.0}  # steps; seconds after which it ends if it had so many
_OFF = {"l1", "l2", "l2_sp", "weight_decay", "dropout", "label_smoothing", "sam"}


def check_optimizer(case: Case) -> Iterator[Finding]:
    """Whether every parameter that should train is in the optimizer."""
    missing = _names(_seen(case).missing)
    text = f"not in the optimizer: {listed(missing)}" if missing else "every trainable parameter is in the optimizer"
    yield judged("optimizer", not missing, text, "give it all groups that it is called with")


def check_trained(case: Case) -> Iterator[Finding]:
    """Whether every trainable tensor has a gradient and moves."""
    run, seen = case.run, _seen(case)
    phase = run.phases[0]
    wanted = [f"network.{name}" for layer in phase.trained for name in run.network.layers[layer]]
    parameters = dict(run.learner.named_parameters())
    wanted = [name for name in parameters if name in set(wanted) or name.startswith(("loss.", "transfer."))]
    blind = _names([name for name in wanted if not seen.gradients.get(name, 0.0) > 0])
    still = _names([name for name in wanted if name not in seen.moved])
    first = "" if len(run.phases) == 1 else " of the first phase"
    if blind:
        text = f"{listed(blind)} should train, but had no gradient in {len(seen.losses)} steps"
        yield Finding("trained", "FAIL", text, "use it in forward (no detach, no requires_grad=False), or freeze it")
    elif still:
        text = f"{listed(still)} had a gradient, but did not move in {len(seen.losses)} steps"
        yield Finding("trained", "FAIL", text, f"lr={_rounded(10 * run.learner.base_lr)}, or look at the optimizer")
    else:
        count = sum(parameters[name].numel() for name in wanted)
        yield Finding("trained", "PASS", f"all {len(wanted)} trainable tensors{first} moved ({count:,} values)")


def check_frozen(case: Case) -> Iterator[Finding]:
    """Whether what is frozen stays, statistics of norms too."""
    run, seen = case.run, _seen(case)
    trained = {f"network.{name}" for layer in run.phases[0].trained for name in run.network.layers[layer]}
    frozen = {f"network.{name}" for names in run.network.layers.values() for name in names} - trained
    if run.plan.norm == "train":
        frozen = {name for name in frozen if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    elif seen.training:
        text = f"{listed(_names(seen.training))}: frozen, but in training mode, so its statistics follow the data"
        yield Finding("frozen", "FAIL", text, "let train() leave frozen norms in eval mode, or freeze.norm=train")
        return
    stirred = _names(sorted(frozen & seen.moved))
    text = (
        f"{listed(stirred)}: frozen, but it moved"
        if stirred
        else f"all {len(frozen)} frozen tensors stayed as they were"
    )
    yield judged("frozen", not stirred, text, "do not change it in forward or train()")


def check_gradient(case: Case) -> Iterator[Finding]:
    """Size of the gradient in the first layer that trains against the last, per value."""
    run, seen = case.run, _seen(case)
    if seen.has_blown_up:
        yield Finding("gradients", "SKIP", "the loss blew up, and every gradient with it: look at `rate` first")
        return
    sizes: dict[str, float] = {}
    for layer, names in run.network.layers.items():
        pairs = [
            (seen.gradients[f"network.{name}"], p.numel())
            for name, p in run.network.named_parameters()
            if name in set(names) and f"network.{name}" in seen.gradients
        ]
        if pairs:
            sizes[layer] = math.sqrt(sum(norm**2 for norm, _ in pairs) / sum(count for _, count in pairs))
    if len(sizes) < 2:
        yield Finding("gradients", "PASS", f"one layer trains ({', '.join(sizes)})")
        return
    (first, low), *_, (last, high) = sizes.items()
    ratio = low / max(high, 1e-30)
    text = f"{first} has {ratio:.2g} times the gradient of {last}, per value"
    if not math.isfinite(ratio) or ratio > _STEEP:
        yield Finding("gradients", "FAIL", f"{text}: it explodes", "trainer.gradient_clip_val=1, init=he, or a norm")
    elif ratio < _FLAT:
        do = "relu for sigmoid or tanh, backbone.norm=batch, init=he, or a shallower network"
        yield Finding("gradients", "FAIL", f"{text}: it vanishes on the way down", do)
    else:
        yield Finding("gradients", "PASS", text)


def check_units(case: Case) -> Iterator[Finding]:
    """Share of units that no image wakes: ReLUs at 0, sigmoids and tanhs at their ends."""
    backbone = copy.deepcopy(case.run.network.backbone).cpu().float().eval()
    found = silent_units(backbone, case.batch.images)
    if not found:
        yield Finding("units", "PASS", "the backbone has no activation that can fall silent")
        return
    bad = {name: (kind, share) for name, (kind, share) in found.items() if share > _SILENT}
    kinds = listed(sorted({kind for kind, _ in found.values()}))
    mean = statistics.fmean(share for _, share in found.values())
    text = (
        f"{100 * mean:.1f} % of the channels of {len(found)} {kinds} are silent in all {len(case.batch.images)} images"
    )
    # Some layers of a sound network sleep for so few images; where many do, little passes.
    is_sound = len(bad) <= len(found) / 4
    if not is_sound:
        worst = listed([f"{name} {100 * share:.0f} % ({kind})" for name, (kind, share) in bad.items()])
        text = f"{text}: {worst}"
    yield judged("units", is_sound, text, "init=he, a smaller lr, or backbone.activation=leaky_relu")


def check_update(case: Case) -> Iterator[Finding]:
    """Size of a step against that of the weights: too small to get anywhere, or so large that it forgets."""
    run, seen = case.run, _seen(case)
    if not seen.updates:
        yield Finding("update", "SKIP", "no step was made")
        return
    typical = _typical(case)
    steps = run.config["epochs"] * run.data.steps_per_epoch
    lr = run.learner.base_lr
    text = f"a step moves the weights by {100 * typical:.2g} % of their size; {steps:,} steps"
    if case.config["lr"] == AUTO:
        yield _not_known("update")
    elif typical < _TINY and typical * steps < _SLOW:
        factor = 1e-3 / max(typical, 1e-30)
        text = f"{text} together by {100 * typical * steps:.2g} % at most: nothing will be learned"
        yield Finding("update", "FAIL", text, f"lr={_rounded(lr * min(factor, 1e6))}, or tune lr-find")
    elif typical > _FAST:
        text = f"{text}: each replaces what the last one learned"
        yield Finding("update", "FAIL", text, _lower(case))
    else:
        why = "a new head starts near zero" if case.run.phases[0].trained == {"head"} else "see what the loss does"
        yield Finding("update", "PASS", f"{text}: much, but {why}" if typical > _MUCH else text)
    if seen.pulls:
        pull = statistics.median(seen.pulls.values())
        decay = run.regularize.weight_decay
        text = f"weight decay takes {pull:.2g} times what the gradient gives"
        text = text if pull <= _DROWNED else f"{text}: it drowns the loss"
        do = f"regularize.weight_decay={_rounded(decay * 0.01 / max(pull, 1e-30))}"
        yield judged("decay", pull <= _DROWNED, text, do)


def check_rate(case: Case) -> Iterator[Finding]:
    """What the loss does in the first steps at the chosen rate."""
    if case.config["lr"] == AUTO:
        yield _not_known("rate")
        return
    seen = _seen(case)
    losses = seen.losses
    if not math.isfinite(losses[-1]):
        text = f"the loss is no longer finite after {len(losses)} steps"
        yield Finding("rate", "FAIL", text, _lower(case))
        return
    third = max(1, len(losses) // 3)
    begun, ended = losses[0], statistics.fmean(losses[-third:])
    text = f"loss {begun:.3g} → {ended:.3g} in {len(losses)} steps at lr={_rounded(case.run.learner.base_lr)}"
    do = _lower(case)
    if ended > _RISE * begun:
        yield Finding("rate", "FAIL", f"{text}: it rises", do)
    elif ended > _STILL * begun:
        yield Finding("rate", "WARN", f"{text}: it does not fall", do)
    elif max(losses) > _JUMP * begun:
        yield Finding("rate", "WARN", f"{text}, by way of {max(losses):.3g}", do)
    else:
        yield Finding("rate", "PASS", text)


def check_stable(case: Case) -> Iterator[Finding]:
    """The chosen rate on a range test: between where learning begins and where the loss blows up."""
    if case.config["lr"] == AUTO:
        yield _not_known("stable")
        return
    found = suggest(range_test(case.run))
    lr, largest = case.run.learner.base_lr, found.largest_stable
    text = f"lr={lr:.2g}; in a range test {found.reason}"
    do = f"lr={found.lr:g}, or tune lr-find"
    if lr > _BEYOND * largest:
        yield Finding("stable", "FAIL", f"{text}: the rate is too high", do)
    elif lr * _BELOW < found.lr:
        yield Finding("stable", "WARN", f"{text}: the rate is low", do)
    else:
        yield Finding("stable", "PASS", text)


def check_overfit(case: Case) -> Iterator[Finding]:
    """Whether the network learns two batches by heart, with regularization, dropout and augmentation off."""
    config = case.config
    labelled = case.train_rows(2 * min(config["batch_size"], ROWS))
    if len(labelled) < 4:
        yield Finding("overfit", "SKIP", "too few rows with a label")
        return
    regularize = {key: 0.0 if key in _OFF else value for key, value in config["regularize"].items()}
    regularize |= {"early_stopping": 0, "ema": 0.0, "swa": 0.0}
    asked = {
        **config,
        "regularize": {key: value for key, value in regularize.items() if key in config["regularize"]},
        "augment": {"_target_": "tune.data.augment.Augment"},
        "cache": {**config["cache"], "views": None},
        "optimizer": {"_target_": "torch.optim.AdamW"},
        "lr": _bold(case),
        "batch_size": min(config["batch_size"], ROWS),
        "epoch_steps": None,
        "trainer": {key: value for key, value in config["trainer"].items() if key != "accumulate_grad_batches"},
    }
    run = prepare(asked, decode=False)
    run.data.only(labelled)
    known = _ByHeart(2, time.monotonic() + _PATIENCE[case.quick])
    with untouched(run):
        hook = run.network.register_forward_hook(known.look)
        train_steps(run, 600, [known])
        hook.remove()
    text = f"2 batches → {100 * known.best:.0f} % in {known.steps} steps"
    do = "the network, its loss or its labels keep it from learning anything: look at the FAILs above"
    yield judged("overfit", known.best >= _RIGHT, text, do)


@final
class _ByHeart(Callback):
    """Stops when all rows of the last few steps are told right."""

    def __init__(self, batches: int, end: float) -> None:
        self.end = end
        self.batches, self.shares, self.best, self.steps = batches, list[float](), 0.0, 0
        self.logits = torch.zeros(0)

    def look(self, network: Any, given: Any, output: Any) -> None:
        self.logits = output.logits.detach()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        labels = batch["source" if "source" in batch else "target"].labels
        self.shares.append(float((self.logits[: len(labels)].argmax(dim=1) == labels).float().mean()))
        self.steps += 1
        if len(self.shares) >= self.batches:
            self.best = max(self.best, statistics.fmean(self.shares[-self.batches :]))
        is_over = self.steps >= _LEAST and time.monotonic() > self.end
        trainer.should_stop = is_over or self.best >= _RIGHT or not math.isfinite(float(outputs["loss"]))


def _bold(case: Case) -> float:
    """A rate at which Adam learns a few rows by heart: higher where a linear head alone does."""
    if all(phase.trained == {"head"} for phase in case.run.phases):
        return 3e-2
    return 1e-3 if case.run.network.backbone.weights_digest else 5e-3


def _not_known(check: str) -> Finding:
    return Finding(check, "SKIP", "lr=auto is found when the run begins", "tune lr-find, and then that rate here")


def _typical(case: Case) -> float:
    """By how much of its size a step moves the weights of a layer; biases, which are few, only where all are."""
    updates, parameters = _seen(case).updates, dict(case.run.learner.named_parameters())
    wide = {name: each for name, each in updates.items() if parameters[name].ndim > 1}
    return statistics.median(statistics.median(each) for each in (wide or updates).values())


def _lower(case: Case) -> str:
    seen = _seen(case)
    rate = lowered(case.run.learner.base_lr, seen.optimizer, _typical(case) if seen.updates else 0.0)
    return f"lr={_rounded(rate)}, or tune lr-find"


def _seen(case: Case) -> Any:
    assert case.watched is not None
    return case.watched


def _names(names: list[str]) -> list[str]:
    return [name.removeprefix("network.") for name in names]


def _rounded(rate: float) -> str:
    return f"{rate:.1g}"
