"""A few steps of the run's own training, looked at from all sides."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from tune.train.probe.losses import blew_up
from tune.train.probe.steps import train_steps, untouched

if TYPE_CHECKING:
    from torch import Tensor

    from tune.train.prepare import Prepared

_STILL = {nn.ReLU: (0.0, 0.0), nn.ReLU6: (0.0, 6.0), nn.Sigmoid: (0.02, 0.98), nn.Tanh: (-0.96, 0.96)}
"""Activations, and below and above what value of theirs no gradient passes, or 4 % of the largest."""


LEAST = 5
"""Steps without which nothing can be said."""


@dataclass
class Watch:
    """What was seen.

    Args:
        rows: of each batch; of some only the last makes a step, where gradients are accumulated.
        losses: of each batch.
        seconds: that each batch took, without the wait for it.
        waits: seconds for each batch.
        gradients: name of a parameter → its gradient's largest norm; before clipping.
        updates: name of a parameter → sizes of its changes in each step, as shares of its size.
        pulls: name of a parameter → what weight decay takes, as a share of what the gradient moves; the largest.
        moved: names of parameters and buffers that are not what they were.
        missing: names of parameters that require a gradient and are in no group of the optimizer.
        training: names of frozen norm layers that were in training mode.
        has_blown_up: whether the loss was far above the first; updates and pulls are of the steps
            before.
        optimizer: that made the steps.
    """

    rows: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    gradients: dict[str, float] = field(default_factory=dict)
    updates: dict[str, list[float]] = field(default_factory=dict)
    pulls: dict[str, float] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    training: list[str] = field(default_factory=list)
    has_blown_up: bool = False
    optimizer: Any = None


def watched(prepared: Prepared, steps: int, seconds: float) -> Watch:
    """Train as the run would, and put everything back.

    Ends after `seconds`, but not before 5 steps, or after `steps`. A loss that is no longer finite ends it, and stands
    last in `losses`.
    """
    seen = Watch()
    with untouched(prepared):
        before = {name: tensor.detach().clone() for name, tensor in prepared.learner.state_dict().items()}
        train_steps(prepared, steps, [_Watching(seen, time.monotonic() + seconds)])
        after = prepared.learner.state_dict()
        seen.moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name].cpu())}
    return seen


@final
class _Watching(Callback):
    def __init__(self, seen: Watch, end: float) -> None:
        self.seen, self.end = seen, end

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.asked, self.steps = time.monotonic(), trainer.global_step
        self.names = {id(p): name for name, p in pl_module.named_parameters()}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.begun = time.monotonic()
        self.seen.waits.append(self.begun - self.asked)
        trained = {name: p for name, p in pl_module.named_parameters() if p.requires_grad}
        self.weights = {name: p.detach().clone() for name, p in trained.items()}
        if not self.seen.losses:
            held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
            self.seen.missing = [name for name, p in trained.items() if id(p) not in held]
            self.seen.training = _norms_in_training(pl_module)
            self.seen.optimizer = trainer.optimizers[0]
        self.begun = time.monotonic()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                norm = float(parameter.grad.norm())
                self.seen.gradients[name] = max(norm, self.seen.gradients.get(name, 0.0))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.seconds.append(time.monotonic() - self.begun)
        self.seen.rows.append(sum(len(each.labels) for each in batch.values()))
        self.seen.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)  # Lightning divides it
        self.seen.has_blown_up |= blew_up(self.seen.losses[0], self.seen.losses[-1])
        parameters = dict(pl_module.named_parameters())
        has_moved = trainer.global_step > self.steps
        self.steps = trainer.global_step
        for group in trainer.optimizers[0].param_groups if has_moved and not self.seen.has_blown_up else ():
            for parameter in group["params"]:
                name = self.names.get(id(parameter), "")
                if name in self.weights:
                    self._note(name, group, parameters[name])
        is_over = time.monotonic() > self.end and len(self.seen.losses) >= LEAST
        trainer.should_stop = is_over or not math.isfinite(self.seen.losses[-1])
        self.asked = time.monotonic()

    def _note(self, name: str, group: dict[str, Any], parameter: Tensor) -> None:
        before = self.weights[name]
        change, size = parameter.detach() - before, float(before.norm())
        if size > 0:
            self.seen.updates.setdefault(name, []).append(float(change.norm()) / size)
        decay = float(group.get("weight_decay", 0.0))
        if decay and size > 0:
            rest = change + group["lr"] * decay * before
            pull = group["lr"] * decay * size / max(float(rest.norm()), 1e-30)
            self.seen.pulls[name] = max(pull, self.seen.pulls.get(name, 0.0))


def _norms_in_training(learner: Any) -> list[str]:
    """Norm layers with statistics whose layer is frozen in this phase, and which would move them."""
    network = learner.network
    trained = {name for layer in learner.phase.trained for name in network.layers[layer]}
    return [
        name
        for name, module in network.named_modules()
        if module.training
        and isinstance(getattr(module, "running_mean", None), torch.Tensor)
        and f"{name}.running_mean" not in trained
    ]


def silent_units(backbone: nn.Module, images: Tensor) -> dict[str, tuple[str, float]]:
    """Of each activation that can fall silent: its kind, and the share of its channels that do so in every image.

    A channel is silent where no gradient passes it, or next to none, for any row and place: a ReLU at 0, a sigmoid or
    tanh at its end.

    Args:
        backbone: in eval mode.
        images: (B, C, H, W).
    """
    found: dict[str, tuple[str, float]] = {}

    def look(name: str, low: float, high: float) -> Any:
        def hook(module: nn.Module, given: Any, said: Tensor) -> None:
            flat = said.detach().flatten(2) if said.ndim > 2 else said.detach()[..., None]  # (B, C, …)
            still = ((flat <= low) | (flat >= high)) if high > 0 else flat <= low
            silent = still.all(dim=2).all(dim=0)
            found[name] = (type(module).__name__, float(silent.float().mean()))

        return hook

    hooks = [
        module.register_forward_hook(look(name, *_STILL[type(module)]))
        for name, module in backbone.named_modules()
        if type(module) in _STILL
    ]
    try:
        with torch.no_grad():
            backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found
