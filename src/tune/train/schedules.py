"""Schedules of the learning rate, as Lightning takes them.

Every one but `plateau` is a closed formula of the step: rate = group's own rate × factor(step). So all groups keep
their ratio, a resumed run needs only the step, and the sum of rounding errors does not depend on the way there.
The first step is number 0. `plateau` looks at a metric and steps once per epoch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from tune.errors import ConfigError
from tune.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer


def constant(optimizer: Optimizer) -> dict[str, Any]:
    """Factor 1 in every step."""
    return _by_step(optimizer, lambda step: 1.0)


def step(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    every: Annotated[int, Range("[1, inf)")] | None = None,
    gamma: Annotated[float, Range("(0, 1)")] = 0.1,
) -> dict[str, Any]:
    """Factor ``gamma^(number of drops so far)``, with a drop after each `every` epochs.

    Args:
        optimizer: whose rates to set.
        total_steps: of the run.
        steps_per_epoch: of the run.
        every: epochs between drops; without it, a third of the run.
        gamma: factor of one drop.

    Raises:
        ConfigError: if the run ends before the first drop.
    """
    if every is None:
        width = total_steps / 3
    else:
        width = every * steps_per_epoch
        if width >= total_steps:
            text = (
                f"the run has {math.ceil(total_steps / steps_per_epoch)} epochs, so a drop after {every} has no effect."
            )
            raise ConfigError(f"scheduler.every: {text}")
    return _by_step(optimizer, lambda step: gamma ** math.floor(step / width))


def exponential(
    optimizer: Optimizer, steps_per_epoch: int, gamma: Annotated[float, Range("(0, 1)")] = 0.9
) -> dict[str, Any]:
    """Factor ``gamma^epoch``, epochs counted from 0."""
    return _by_step(optimizer, lambda step: gamma ** (step // steps_per_epoch))


def cosine(optimizer: Optimizer, total_steps: int, final: Annotated[float, Range("[0, 1)")] = 0.0) -> dict[str, Any]:
    """Factor from 1 to `final` along half a cosine: ``final + (1 - final) * (1 + cos(pi * step / total)) / 2``.

    Source: Loshchilov and Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    return _by_step(optimizer, lambda step: _half_cosine(1.0, final, step / total_steps))


def warmup_cosine(
    optimizer: Optimizer,
    total_steps: int,
    warmup: Annotated[float, Range("(0, 1)")] = 0.1,
    final: Annotated[float, Range("[0, 1)")] = 0.0,
) -> dict[str, Any]:
    """A rise in a line over the first ``n = round(warmup * total)`` steps, then `cosine` over the others.

    The rise takes the values 1/(n+1), 2/(n+1) … n/(n+1); step n has factor 1.

    Args:
        optimizer: whose rates to set.
        total_steps: of the run.
        warmup: share of the steps in which the rate rises.
        final: factor at the end of the run.
    """
    rising = min(round(warmup * total_steps), total_steps - 1)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return _half_cosine(1.0, final, (step - rising) / (total_steps - rising))

    return _by_step(optimizer, factor)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    rise: Annotated[float, Range("(0, 1)")] = 0.3,
    start: Annotated[float, Range("(0, 1)")] = 0.04,
    final: Annotated[float, Range("[0, 1)")] = 4e-6,
) -> dict[str, Any]:
    """Factor from `start` to 1 in the first part of the run, to `final` in the rest, both along half a cosine.

    Source: Smith and Topin 2018, "Super-convergence", as in torch's OneCycleLR (div_factor 25, final_div_factor 1e4).
    We leave the momentum alone: it is the optimizer's.

    Args:
        optimizer: whose rates to set; `lr` is the peak.
        total_steps: of the run.
        rise: share of the steps in which the rate rises.
        start: factor in the first step.
        final: factor at the end of the run.
    """
    rising = rise * total_steps

    def factor(step: int) -> float:
        if step < rising:
            return _half_cosine(start, 1.0, step / rising)
        return _half_cosine(1.0, final, (step - rising) / (total_steps - rising))

    return _by_step(optimizer, factor)


def plateau(
    optimizer: Optimizer,
    monitor: str = "val/loss",
    factor: Annotated[float, Range("(0, 1)")] = 0.1,
    patience: Annotated[int, Range("[0, inf)")] = 3,
    threshold: Annotated[float, Range("[0, inf)")] = 1e-4,
) -> dict[str, Any]:
    """All rates times `factor` when `monitor` has not got better for more than `patience` epochs.

    Args:
        optimizer: whose rates to set.
        monitor: metric, named as in metrics.csv; lower is better if its name ends in "loss", else higher.
        factor: of one drop.
        patience: epochs without a better value that are forgiven.
        threshold: share by which a value must be better than the best so far.
    """
    mode = "min" if monitor.endswith("loss") else "max"
    # With torch's eps of 1e-8 small rates would stop falling before large ones, and the groups lose their ratio.
    scheduler = ReduceLROnPlateau(optimizer, mode, factor, patience, threshold, eps=0.0)
    return {"scheduler": scheduler, "interval": "epoch", "frequency": 1, "monitor": monitor}


def _by_step(optimizer: Optimizer, factor: Callable[[int], float]) -> dict[str, Any]:
    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "frequency": 1}


def _half_cosine(start: float, end: float, share: float) -> float:
    """From `start` at share 0 to `end` at share 1; the same beyond, as a schedule is asked once more after the run."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
