"""The strengths of every regularizer, in one flat place. Torch-free: the checks read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tune.errors import Problem
from tune.ranges import Range


@dataclass(frozen=True)
class Regularize:
    """What keeps the network from learning its training rows by heart; everything is off by default.

    Optimizer, head and loss read these values from here and have no key of that name.

    Args:
        l1: strength of the L1 penalty in the loss, on trainable weights (no biases, no norms).
        l2: strength of the L2 penalty in the loss, on the same weights.
        l2_sp: strength of the distance between the backbone's trainable weights and the pretrained ones.
        sam: radius of the sharpness-aware step, 0.05 is usual: the gradient is taken where the loss is worst nearby.
        ema: decay of an exponential average of the weights, which is validated and kept; 0.99 is usual.
        swa: number of last epochs whose weights are averaged; the average is validated and kept.
        weight_decay: handed to the optimizer, for weights with more than one dimension.
        dropout: share of the head's inputs that are dropped.
        label_smoothing: share of each row's label that is spread evenly over all classes.
        early_stopping: epochs without a better objective after which training ends; 0 never ends it.
        min_delta: by how much the objective must improve to count for `early_stopping`.
    """

    l1: Annotated[float, Range("[0, inf)")] = 0.0
    l2: Annotated[float, Range("[0, inf)")] = 0.0
    l2_sp: Annotated[float, Range("[0, inf)")] = 0.0
    sam: Annotated[float, Range("[0, inf)")] = 0.0
    ema: Annotated[float, Range("[0, 1)")] = 0.0
    swa: Annotated[int, Range("[0, inf)")] = 0
    weight_decay: Annotated[float, Range("[0, inf)")] = 0.0
    dropout: Annotated[float, Range("[0, 1)")] = 0.0
    label_smoothing: Annotated[float, Range("[0, 1)")] = 0.0
    early_stopping: Annotated[int, Range("[0, inf)")] = 0
    min_delta: Annotated[float, Range("[0, inf)")] = 0.0

    def problems(self, epochs: int, accumulate: int, precision: str) -> list[Problem]:
        """What something else makes meaningless.

        Args:
            epochs: of the run.
            accumulate: batches per optimizer step.
            precision: Lightning's name of it.
        """
        found = []
        if self.sam and precision == "16-mixed":
            found.append(Problem("regularize.sam", "needs two gradients a step, which 16-mixed cannot scale"))
        if self.sam and accumulate > 1:
            found.append(Problem("regularize.sam", "needs the whole batch at once: trainer.accumulate_grad_batches=1"))
        if self.ema and self.swa:
            found.append(Problem("regularize.swa", "and ema are two averages of the same weights; take one"))
        if self.swa and self.early_stopping:
            found.append(
                Problem("regularize.swa", "averages the last epochs, which early_stopping leaves out; take one")
            )
        if self.swa >= epochs:
            found.append(Problem("regularize.swa", f"{self.swa} of {epochs} epochs leave none to train before"))
        return found
