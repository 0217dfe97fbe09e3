"""The strengths of every regularizer, in one flat place. Torch-free: the checks read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tune.ranges import Range


@dataclass(frozen=True)
class Regularize:
    """What keeps the network from learning its training rows by heart; everything is off by default.

    Optimizer, head and loss read these values from here and have no key of that name.

    Args:
        l1: strength of the L1 penalty in the loss, on trainable weights (no biases, no norms).
        l2: strength of the L2 penalty in the loss, on the same weights.
        weight_decay: handed to the optimizer, for weights with more than one dimension.
        dropout: share of the head's inputs that are dropped.
        label_smoothing: share of each row's label that is spread evenly over all classes.
        early_stopping: epochs without a better objective after which training ends; 0 never ends it.
        min_delta: by how much the objective must improve to count for `early_stopping`.
    """

    l1: Annotated[float, Range("[0, inf)")] = 0.0
    l2: Annotated[float, Range("[0, inf)")] = 0.0
    weight_decay: Annotated[float, Range("[0, inf)")] = 0.0
    dropout: Annotated[float, Range("[0, 1)")] = 0.0
    label_smoothing: Annotated[float, Range("[0, 1)")] = 0.0
    early_stopping: Annotated[int, Range("[0, inf)")] = 0
    min_delta: Annotated[float, Range("[0, inf)")] = 0.0
