"""What a loss would be for who knows no more than how frequent the classes are, so that a loss can be judged at all.

The share of that which is learned, ``1 - (loss - least) / (chance - least)``, is McFadden's pseudo R² (1974): 0 for
guessing by frequency, 1 for knowing every row. It compares tasks with two classes and with a thousand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tune.report.story import Story


@dataclass(frozen=True)
class Scale:
    """Of train/loss and val/loss of one run.

    Args:
        train: what guessing by frequency costs.
        val: the same on the validation rows.
        least: train/loss where every row is known; above 0 with label smoothing.
        factor: share of the loss that train/loss shows; below 1 where a teacher has the rest.
    """

    train: float
    val: float
    least: float = 0.0
    factor: float = 1.0

    def learned(self, train_loss: float) -> float:
        """Share learned of the training rows."""
        return 1 - (train_loss / self.factor - self.least) / (self.train - self.least)

    def told(self, val_loss: float) -> float:
        """Share learned of the validation rows."""
        return 1 - val_loss / self.val


def scale_of(story: Story) -> Scale | None:
    """The scale of a run; None where its losses have none that we know, or are not of one kind."""
    config, train, val = story.config, story.shares("train"), story.shares("val")
    method = config["transfer"]["_target_"].removeprefix("tune.transfer.").partition(".")[0]
    loss = config["loss"]["_target_"].removeprefix("tune.losses.").partition(".")[0]
    is_weighed = method in ("reweight", "tradaboost", "source_free") or story.value("head.weights") == "uncertainty"
    if is_weighed or loss not in ("cross_entropy", "weighted", "logit_adjustment", "focal"):
        return None
    if not sum(val) or min(train) == 0:
        return None
    gamma = float(story.value("loss.gamma")) if loss == "focal" else 0.0
    weights = [1.0] * len(train)
    if loss == "weighted":
        asked = story.value("loss.classes")
        weights = [1 / (len(train) * share) for share in train] if asked == "inverse" else asked
    drawn = [1 / len(train)] * len(train) if config["data"].get("sampler") == "balanced" else train
    smoothing = story.value("regularize.label_smoothing")
    even = smoothing / len(train)
    least = 0.0
    for label in range(len(train)) if smoothing else ():
        aim = [even + (1 - smoothing) * (label == other) for other in range(len(train))]
        if len(set(weights)) == 1:
            least = weights[0] * _cost(aim, gamma)
            break
        least += drawn[label] * _cost([w * t for w, t in zip(weights, aim, strict=True)], gamma)
    smooth = [(1 - smoothing) * share + even for share in drawn]
    chance = _cost([w * share for w, share in zip(weights, smooth, strict=True)], gamma)
    factor = 1 - story.value("transfer.alpha") if method == "distill" else 1.0
    val_chance = _cost([w * share for w, share in zip(weights, val, strict=True)], gamma)
    return Scale(chance, val_chance, least, factor) if factor > 0 and chance > least and val_chance > 0 else None


def entropy(shares: list[float]) -> float:
    """``-sum_k s_k log s_k``, in nats."""
    return -sum(share * math.log(share) for share in shares if share > 0)


def _cost(masses: list[float], gamma: float) -> float:
    """``-sum_k m_k (1 - q_k)^gamma log q_k`` of the guess q = m / sum(m): the least there is for gamma = 0."""
    whole = sum(masses)
    return -sum(m * (1 - m / whole) ** gamma * math.log(m / whole) for m in masses if m > 0)
