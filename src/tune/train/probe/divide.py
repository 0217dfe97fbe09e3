"""The older rule: start with a rate that is too high, and divide it by 3 until the loss no longer gets lower for it.

Every rate starts from the same weights and sees the same batches, so a few steps tell two of them apart. A head that
learns alone is tried for an epoch in which the rate falls to 0, as it does in most runs: without the fall a rate is
judged by how it jumps about. Where more learns, ten steps at one rate have to do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune.errors import RunError
from tune.train.probe.losses import losses_at
from tune.train.probe.range_test import HIGHEST, LOWEST, Suggestion, is_cheap, two_digits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tune.train.prepare import Prepared

STEPS, STEPS_OF_A_HEAD = 10, 100
_UNTRAINED = 1e-12
"""A rate that changes nothing: 0 is refused, or divided by, by some optimizers."""


@dataclass(frozen=True)
class Tries:
    """What the loss was after a few steps at each of some rates.

    Args:
        untrained: of the same batches, where nothing learned.
        losses: rate → loss of the last third of the steps; infinite where it was not finite any more.
        steps: of each try.
    """

    untrained: float
    losses: dict[float, float]
    steps: int


def divide(prepared: Prepared, start: float, steps: int = 0) -> Tries:
    """Try `start`, a third of it, and so on, until two rates in a row are worse than the best; then larger ones, if
    the first was the best. Everything is put back.

    Args:
        prepared: the run.
        start: the first rate.
        steps: of each try; 0: an epoch, at most 100, where a head alone learns from features that are kept, else 10.
    """
    falls = is_cheap(prepared)
    if not steps:
        steps = min(STEPS_OF_A_HEAD, max(STEPS, prepared.data.steps_per_epoch)) if falls else STEPS
    shares = [1 - step / steps if falls else 1.0 for step in range(steps)]
    return search(start, steps, lambda rate: _loss_at(prepared, [rate * share for share in shares]))


def search(start: float, steps: int, loss_at: Callable[[float], float]) -> Tries:
    """The rates that `divide` tries, for any function from a rate to a loss."""
    untrained, losses = loss_at(_UNTRAINED), {}
    rate, worse = start, 0
    while rate >= LOWEST and worse < 2:
        losses[rate] = loss_at(rate)
        worse = worse + 1 if _enough(losses, untrained) < min(losses[rate], untrained) else 0
        rate /= 3
    rate = start
    while _best(losses, untrained) == rate and losses[rate] < untrained and 3 * rate <= HIGHEST:
        rate *= 3
        losses[rate] = loss_at(rate)
    return Tries(untrained, losses, steps)


def judge(tries: Tries) -> Suggestion:
    """The lowest point of the parabola through the best rate and its neighbours, in logarithms of the rate.

    The best is the smallest of those that learned about as much as any.

    Raises:
        RunError: if no rate learned anything.
    """
    learned = {rate: loss for rate, loss in tries.losses.items() if loss < tries.untrained}
    if not learned:
        low, high = min(tries.losses), max(tries.losses)
        raise RunError(
            f"lr: none from {low:.2g} to {high:.2g} lowered the loss within {tries.steps} steps, from "
            f"{tries.untrained:.3g}. Has the network learned this already, or can nothing be learned? Type a rate"
        )
    best, largest = _best(learned, tries.untrained), max(learned)
    lr = two_digits(best * 3 ** _vertex(tries.losses, best))
    return Suggestion(lr, two_digits(largest), _reason(tries, best, lr, largest))


def _reason(tries: Tries, best: float, lr: float, largest: float) -> str:
    """What was seen, and how the rate came of it."""
    lowest = min(tries.losses, key=tries.losses.__getitem__)
    fall = f"{tries.untrained:.3g} → {tries.losses[best]:.3g}"
    told = f"{best:.2g} lowered the loss most ({fall})"
    if lowest != best:
        most = f"{lowest:.2g}: {tries.losses[lowest]:.3g}"
        told = f"{best:.2g} is the smallest with 95 % of the largest fall of the loss ({fall}; {most})"
    if lr != two_digits(best):
        told += f", and {lr:.2g} lies from it towards the better of its neighbours"
    how = f"of {len(tries.losses)} rates, each tried for {tries.steps} steps on the same batches"
    return f"{how}, {told}; {largest:.2g} still learned"


def _enough(losses: dict[float, float], untrained: float) -> float:
    """The lowest loss, but for a twentieth of what was learned."""
    lowest = min(losses.values())
    return lowest + max(0.0, untrained - lowest) / 20 if math.isfinite(lowest) else lowest


def _best(losses: dict[float, float], untrained: float) -> float:
    """The smallest rate that is as good as any: where classes can be told apart, larger ones only enlarge weights."""
    return min(rate for rate, loss in losses.items() if loss <= _enough(losses, untrained))


def _vertex(losses: dict[float, float], best: float) -> float:
    """Where the parabola is lowest, from -½ to ½ around its middle; 0 with a neighbour missing."""
    rates = sorted(losses)
    place = rates.index(best)
    if not 0 < place < len(rates) - 1:
        return 0.0
    left, middle, right = (losses[rate] for rate in rates[place - 1 : place + 2])
    if not math.isfinite(right) or left + right <= 2 * middle:
        return 0.0
    return max(-0.5, min(0.5, (left - right) / (2 * (left + right - 2 * middle))))


def _loss_at(prepared: Prepared, rates: list[float]) -> float:
    losses = losses_at(prepared, rates)
    last = losses[-max(1, len(rates) // 3) :]
    return sum(last) / len(last) if len(losses) == len(rates) and math.isfinite(losses[-1]) else math.inf
