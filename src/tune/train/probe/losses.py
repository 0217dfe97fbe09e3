"""The training loss of each step, at rates that are given step by step: what every search for a rate looks at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

from pytorch_lightning.callbacks import Callback

from tune.train.probe.steps import train_steps, untouched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytorch_lightning import LightningModule, Trainer

    from tune.train.prepare import Prepared


def losses_at(
    prepared: Prepared, rates: Sequence[float], is_over: Callable[[list[float]], bool] = lambda losses: False
) -> list[float]:
    """Train from the start, each step at a rate of its own, and put everything back.

    Every group of the optimizer keeps its share of the rate, and the optimizer starts without a memory. The same
    number of steps sees the same batches, changed and dropped out alike, so that two rates can be told apart by less
    than batches differ.

    Args:
        prepared: the run.
        rates: of the head, one for each step.
        is_over: whether to stop, from the losses so far.

    Returns:
        The loss before each step's change; it ends with the first that is not finite, or where `is_over`.
    """
    learner, watch = prepared.learner, _Watch(rates, prepared.data.accumulate, is_over)
    before, learner.base_lr = learner.base_lr, 1.0  # so that a group's own rate is its share
    try:
        with untouched(prepared):
            train_steps(prepared, len(rates), [watch])
    finally:
        learner.base_lr = before
    return watch.losses


@final
class _Watch(Callback):
    def __init__(self, rates: Sequence[float], accumulate: int, is_over: Callable[[list[float]], bool]) -> None:
        self.rates, self.accumulate, self.is_over = rates, accumulate, is_over
        self.losses: list[float] = []
        self._batches: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * self.rates[trainer.global_step]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches.append(float(outputs["loss"]) * self.accumulate)  # Lightning divides it
        if len(self._batches) == self.accumulate or trainer.is_last_batch:
            self.losses.append(sum(self._batches) / len(self._batches))
            self._batches.clear()
            if not math.isfinite(self.losses[-1]) or self.is_over(self.losses):
                trainer.should_stop = True


def blew_up(first: float, loss: float) -> bool:
    """Whether a loss has risen by more than three times what it was at first."""
    return not loss <= first + 3 * abs(first)
