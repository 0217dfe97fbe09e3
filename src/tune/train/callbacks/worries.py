"""What in the numbers of a step is worth a line to the user. Pure functions of numbers: the thresholds stand here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tune.train.probe.lowered import lowered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.optim import Optimizer

VANISHING = 1e-4
"""First layer's gradient over the last one's. Healthy networks, pretrained or not, stay within 0.01 to 100."""

DEAD = 0.5
"""Share of a layer's units. Half of a layer that never learns is no accident of one batch."""

ENOUGH_VALUES = 32
"""Values of a unit in one batch, below which a unit that is merely selective may look dead."""

USUAL_UPDATE = 1e-3
"""Change over weight in one step, where a network learns well."""

LARGE_UPDATE = 0.1
"""Ten such steps forget what a layer knew."""

LARGE_LOSS = 100.0
"""Times that of the first batch, or 1 if that was less."""

SMALL_UPDATE = 1e-5
"""In no layer more: it would take 10^5 steps to change the weights once over."""

DROWNS = 3.0
"""Gradient of a penalty over that of the loss. At the end of a training they are equal, by what a minimum is; the size
of the term says little: healthy runs have penalties of twice their loss."""


@dataclass(frozen=True)
class LayerStep:
    """What one step did to a layer.

    Args:
        name: of the layer.
        weight: length of its weights before the step.
        gradient: length of their gradient.
        update: length of the change over that of the weights; None for weights that are all zero.
        dead: share of its rectified units that gave only zeros; None without any.
        values: how many values each of these gave at least.
    """

    name: str
    weight: float
    gradient: float
    update: float | None
    dead: float | None
    values: int = 0

    @property
    def numbers(self) -> tuple[float, float, float | None, float | None]:
        """As they stand in monitor.csv."""
        return self.weight, self.gradient, self.update, self.dead


THROWN = frozenset({"thrown", "large loss"})
"""Kinds of trouble behind which nothing is left of what a layer knew: what it does then is no trouble of its own."""


def of_loss(first: float, now: float, learner: Any, optimizer: Optimizer, epoch: int) -> Iterator[tuple[str, str]]:
    """A loss so far above that of the first batch that the rate has thrown the weights out, a head's as well.

    Args:
        first: loss of the first batch.
        now: of the one that is looked at.
        learner: whose they are.
        optimizer: that it trains with.
        epoch: of the step, counted from 0.
    """
    if not now <= LARGE_LOSS * max(first, 1.0):
        rate = lowered(learner.base_lr, optimizer)
        text = f"the loss of a batch is {now:.3g}, that of the first was {first:.3g} (epoch {epoch + 1})"
        yield "large loss", f"{text}. Try lr={rate:.2g}"


def of_step(layers: Sequence[LayerStep], learner: Any, optimizer: Optimizer, epoch: int) -> Iterator[tuple[str, str]]:
    """Kind of each trouble that a step shows, and what to say of it.

    Args:
        layers: that trained, from the input to the output.
        learner: whose they are.
        optimizer: that made the step.
        epoch: of the step, counted from 0.
    """
    network, lr = learner.network, learner.base_lr
    own = [layer for layer in layers if layer.name in network.layers]
    # A fresh head starts near zero and moves by a third of its length in its third step at any rate.
    large = {layer.name: layer.update for layer in own if layer.name != "head" and layer.update is not None}
    # The first in the network's order among those that are not finite, which no comparison tells apart.
    most = max(large, key=lambda name: large[name] if math.isfinite(large[name]) else math.inf, default="")
    if most and not large[most] <= LARGE_UPDATE:
        how = f"by {large[most]:.2g} of its length" if math.isfinite(large[most]) else "beyond what numbers can hold"
        text = f"one step changed layer {most} {how} (epoch {epoch + 1})"
        is_thrown = not large[most] <= 1
        yield "thrown" if is_thrown else "large update", f"{text}. Try lr={lowered(lr, optimizer, large[most]):.2g}"
        if is_thrown:
            return
    dead = [layer for layer in own if layer.dead is not None and layer.dead > DEAD and layer.values >= ENOUGH_VALUES]
    if dead:
        worst = max(dead, key=lambda layer: layer.dead or 0)
        text = (
            f"{worst.dead:.0%} of the rectified units of layer {worst.name} gave 0 for a whole batch and learn nothing"
        )
        yield "dead", f"{text} (epoch {epoch + 1}). Try lr={lowered(lr, optimizer):.2g}"
    if len(own) > 1 and own[-1].gradient:
        ratio, ends = own[0].gradient / own[-1].gradient, f"layer {own[0].name} is"
        if ratio < VANISHING:
            unsaturated = "init=he and, where it has these keys, backbone.activation=relu or backbone.norm=batch"
            remedy = "freeze=mid" if network.backbone.weights_digest else unsaturated
            text = f"the gradient of {ends} {ratio:.1e} times that of {own[-1].name}: it vanishes on the way"
            yield "vanishing", f"{text} (epoch {epoch + 1}). Try {remedy}"
        elif ratio > 1 / VANISHING:
            text = f"the gradient of {ends} {ratio:.1e} times that of {own[-1].name}: it explodes on the way"
            yield (
                "exploding",
                f"{text} (epoch {epoch + 1}). Try trainer.gradient_clip_val=1, or lr={lowered(lr, optimizer):.2g}",
            )
    updates = {layer.name: layer.update for layer in own if layer.update is not None}
    if not updates:
        return
    most = max(updates, key=lambda name: updates[name])
    if epoch == 0 and 0 < updates[most] < SMALL_UPDATE:
        text = f"no layer changed by more than {updates[most]:.1e} of its length in a step"
        yield (
            "small update",
            f"{text} (epoch {epoch + 1}, layer {most}). Try lr={lr * USUAL_UPDATE / updates[most]:.1g}",
        )


def of_penalties(pulls: Mapping[str, float], learner: Any) -> Iterator[tuple[str, str]]:
    """A penalty that pulls harder than the loss while that still has much to teach.

    Args:
        pulls: of each penalty in a step of the first epoch, the length of its gradient over that of all other terms.
        learner: whose they are.
    """
    for name, times in pulls.items():
        if times > DROWNS:
            strength = learner.penalties[name].strength / times / 10
            text = f"the gradient of {name} is {times:.1f} times that of the loss: it drowns it (epoch 1)"
            yield f"{name} drowns", f"{text}. Try regularize.{name}={strength:.1g}"
