"""The rate to try in place of one that is too high: the same number wherever it is advised."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tune.report.diagnosis import USUAL_RATES

if TYPE_CHECKING:
    from torch.optim import Optimizer

SOUND_CHANGE = 0.03
"""Of the weights' length in one step, at most."""


def lowered(lr: float, optimizer: Optimizer, change: float = 0.0) -> float:
    """A tenth of a rate; less where the optimizer is usually used with less, or where a step changed too much.

    Args:
        lr: the rate that is too high.
        optimizer: that was given it.
        change: of weights in a step at this rate, as a share of their length, which grows as the rate does.
    """
    rates = [lr / 10]
    if (usual := usual_of(optimizer)) is not None:
        rates.append(usual)
    if change > 0 and math.isfinite(change):
        rates.append(lr * SOUND_CHANGE / change)
    return min(rates)


def usual_of(optimizer: Optimizer) -> float | None:
    """Order of the rates that an optimizer is used with; None where it is not known."""
    name = type(optimizer).__name__.lower()
    if name == "sgd" and optimizer.defaults["momentum"]:
        name = "nesterov" if optimizer.defaults["nesterov"] else "momentum"
    return USUAL_RATES.get(name)
