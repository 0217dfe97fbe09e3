"""The range test: the rate grows from step to step, and the loss says where learning begins and where it ends.

curve = range_test(prepared)
suggest(curve).largest_stable
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune.train.probe.losses import blew_up, losses_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tune.train.prepare import Prepared

LOWEST, HIGHEST = 1e-6, 10.0
STEPS, STEPS_OF_A_HEAD = 24, 100


@dataclass(frozen=True)
class Curve:
    """What the loss did while the rate grew.

    Args:
        rates: of the head, growing by equal factors.
        losses: smoothed, each up to the step before its rate acted; as many as rates, all of them finite.
    """

    rates: list[float]
    losses: list[float]


@dataclass(frozen=True)
class Suggestion:
    """A rate to train with.

    Args:
        lr: of the head, two digits.
        largest_stable: the largest rate that still learned.
        reason: a sentence.
    """

    lr: float
    largest_stable: float
    reason: str


def range_test(prepared: Prepared, steps: int = 0) -> Curve:
    """Train from the start at rates from 1e-6 to 10, all groups by the same factor, and put everything back.

    It ends where the smoothed loss has blown up.

    Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3. There the rate grows by
    equal amounts and accuracy is looked at; here by equal factors, and the loss.

    Args:
        prepared: the run.
        steps: one for each rate; 0: many where a head alone learns from features that are kept, else few.
    """
    steps = steps or (STEPS_OF_A_HEAD if is_cheap(prepared) else STEPS)
    rates = [LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1)) for step in range(steps)]
    memory = steps / 12
    found = losses_at(prepared, rates, lambda losses: blew_up(losses[0], smoothed(losses, memory)[-1]))
    found = found if math.isfinite(found[-1]) else found[:-1]
    return Curve(rates[: len(found)], smoothed(found, memory))


def suggest(curve: Curve) -> Suggestion:
    """Read a curve: the largest stable rate is where the loss was lowest, the rate to take where it fell fastest.

    Both shift with the number of steps, since a slow ramp learns more at low rates; `divide` compares rates instead.
    """
    lowest = curve.losses.index(min(curve.losses))
    x, width = [math.log(rate) for rate in curve.rates], max(2, len(curve.rates) // 14)
    falls = [
        ((curve.losses[step] - curve.losses[step + width]) / (x[step + width] - x[step]), step)
        for step in range(lowest - width + 1)
    ]
    if not falls:
        largest = two_digits(curve.rates[lowest])
        return Suggestion(largest, largest, "the loss never fell: no rate learned anything")
    steepest = curve.rates[max(falls)[1] + width // 2]
    largest = two_digits(curve.rates[lowest])
    lr = min(two_digits(steepest), largest)
    edge = "the largest that was tried" if lowest == len(curve.rates) - 1 else "beyond which it rose"
    told = f"the loss fell fastest at {lr:.2g}, and more slowly up to {largest:.2g}, {edge}"
    return Suggestion(lr, largest, told)


def smoothed(losses: Sequence[float], memory: float) -> list[float]:
    """Exponential means over about `memory` values, each with weights that sum to 1."""
    decay, mean, weight = 1 - 1 / max(memory, 1), 0.0, 0.0
    means = []
    for loss in losses:
        mean, weight = decay * mean + (1 - decay) * loss, decay * weight + (1 - decay)
        means.append(mean / weight)
    return means


def is_cheap(prepared: Prepared) -> bool:
    """Whether a step costs a millisecond or two: a head alone learns, from features that are kept."""
    return prepared.frozen.is_kept and prepared.phases[0].trained == {"head"}


def two_digits(rate: float) -> float:
    """Rounded, as a rate is typed."""
    return float(f"{rate:.1e}")
