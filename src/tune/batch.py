"""What travels from the data to the loss. Letters of shapes, used in every docstring:

B rows of a batch · C H W image · D features · E embedding · K classes · N rows of the data
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Batch:
    """Rows on their way through the network.

    Args:
        images: (B, C, H, W) float, normalised for the backbone; or (B, N), what a frozen part of it says of them.
        labels: (B,) int64, the true class of each row; never mixed.
        label_probs: (B, K) float32, what the loss aims at: one-hot, then smoothed and mixed as asked for.
        weights: (B,) float32, importance of each row in the loss, 1 when the data names none.
        index: (B,) int64, row of the data table.
        tasks: what the loss of each further task aims at, float32, NaN where a row does not say: (B,) the number of a
            class, or a number in standard deviations from the mean of the training rows; (B, L) 0 or 1 per label.
    """

    images: Tensor
    labels: Tensor
    label_probs: Tensor
    weights: Tensor
    index: Tensor
    tasks: dict[str, Tensor] = field(default_factory=dict, kw_only=True)


@dataclass
class Output:
    """What the network says about a batch.

    Args:
        features: (B, D), the backbone's output.
        embedding: (B, E), the input of the last linear layer.
        logits: (B, K), always float32.
        tasks: of each further task (B, its classes, its labels, or 1), always float32.
    """

    features: Tensor
    embedding: Tensor
    logits: Tensor
    tasks: dict[str, Tensor] = field(default_factory=dict, kw_only=True)
