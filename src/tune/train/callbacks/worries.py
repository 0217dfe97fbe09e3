"""What in the numbers of a step is worth a line to the user. Pure functions of numbers: the thresholds stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


def of_step(layers: Sequence[LayerStep], learner: Any, epoch: int) -> Iterator[tuple[str, str]]:
    """Kind of each trouble that a step shows, and what to say of it.

    Args:
        layers: that trained, from the input to the output.
        learner: whose they are.
        epoch: of the step, counted from 0.
    """
    network, lr = learner.network, learner.base_lr
    own = [layer for layer in layers if layer.name in network.layers]
    dead = [layer for layer in own if layer.dead is not None and layer.dead > DEAD and layer.values >= ENOUGH_VALUES]
    if dead:
        worst = max(dead, key=lambda layer: layer.dead or 0)
        text = (
            f"{worst.dead:.0%} of the rectified units of layer {worst.name} gave 0 for a whole batch and learn nothing"
        )
        yield "dead", f"{text} (epoch {epoch + 1}). Try lr={lr / 10:.3g}"
    if len(own) > 1 and own[-1].gradient:
        ratio, ends = own[0].gradient / own[-1].gradient, f"layer {own[0].name} is"
        if ratio < VANISHING:
            unsaturated = "init=he and, where it has these keys, backbone.activation=relu or backbone.norm=batch"
            remedy = "freeze=mid" if network.backbone.weights_digest else unsaturated
            text = f"the gradient of {ends} {ratio:.1e} times that of {own[-1].name}: it vanishes on the way"
            yield "vanishing", f"{text} (epoch {epoch + 1}). Try {remedy}"
        elif ratio > 1 / VANISHING:
            text = f"the gradient of {ends} {ratio:.1e} times that of {own[-1].name}: it explodes on the way"
            yield "exploding", f"{text} (epoch {epoch + 1}). Try trainer.gradient_clip_val=1, or lr={lr / 10:.3g}"
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
    # A fresh head starts near zero and moves by a third of its length in its third step at any rate.
    most = max(updates.keys() - {"head"}, key=lambda name: updates[name], default="head")
    if most != "head" and updates[most] > LARGE_UPDATE:
        text = f"one step changed layer {most} by {updates[most]:.2g} of its length"
        yield "large update", f"{text} (epoch {epoch + 1}). Try lr={lr / 10:.3g}"


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
