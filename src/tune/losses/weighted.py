from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, final

import torch

from tune.errors import ConfigError
from tune.losses.interface import Loss, weighted_mean
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


@final
class Weighted(Loss):
    """Cross-entropy in which some classes count more than others.

    Row loss: ``-sum_k c_k * t_k * log p_k``, t = ``batch.label_probs``; mean over rows, weighted by ``batch.weights``
    (which every loss does). The mean is not divided by the class weights, so that a batch with more rare rows
    has a larger loss, not the same one.

    "inverse" gives ``c_k = N / (K * n_k)``: each class weighs the same as a whole, the mean of c over the training
    rows is 1, and so the loss stays on the scale of `loss=cross_entropy`.

    Args:
        class_counts: rows of each class in the training part, from the data.
        classes: "inverse", or the weight of each class as it is, in the order of the class names.

    Raises:
        ConfigError: if the number of weights is not K, one is negative or none is positive, or a class has no row
            to take an inverse of.
    """

    def __init__(
        self,
        class_counts: list[int],
        classes: Literal["inverse"] | list[Annotated[float, Range("[0, inf)")]] = "inverse",
    ) -> None:
        num_classes = len(class_counts)
        if isinstance(classes, str):
            if classes != "inverse":
                raise ConfigError(
                    f"loss.classes: {classes!r} is neither 'inverse' nor a list of {num_classes} numbers."
                )
            if 0 in class_counts:
                text = f"class {class_counts.index(0)} has no training row to count; give a list of weights."
                raise ConfigError(f"loss.classes: {text}")
            classes = [sum(class_counts) / (num_classes * count) for count in class_counts]
        if len(classes) != num_classes:
            raise ConfigError(f"loss.classes: {len(classes)} weights for {num_classes} classes; give one for each.")
        if min(classes) < 0 or max(classes) == 0:
            raise ConfigError(f"loss.classes: {list(classes)} must not be negative, nor all 0.")
        self.classes = torch.tensor(classes, dtype=torch.float32)  # (K,)

    def __call__(self, output: Output, batch: Batch) -> Tensor:
        """Mean loss, a scalar. Reads ``output.logits`` (B, K), ``batch.label_probs`` (B, K), ``batch.weights`` (B,)."""
        self.classes = self.classes.to(output.logits.device)  # copies in the first step only
        row_loss = -(self.classes * batch.label_probs * output.logits.log_softmax(dim=1)).sum(dim=1)  # (B,)
        return weighted_mean(row_loss, batch.weights)
