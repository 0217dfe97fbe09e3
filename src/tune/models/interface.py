"""What every backbone and every head promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class InputSpec:
    """How images must look before they enter a backbone.

    Args:
        size: height and width, pixels.
        mean: per channel, for pixels of 0-1.
        std: per channel, for pixels of 0-1.
        interpolation: "bilinear", "bicubic" …, as the weights were trained.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


class Backbone(nn.Module, ABC):
    """Turns images (B, C, H, W) into features (B, D).

    Attributes:
        feature_dim: D.
        input: what the images must look like.
        layers: ordered from input to output: name of a layer → names of its parameters and buffers, relative to the
            backbone. Every one is in exactly one layer. The one notion of depth that freezing, rates per layer and
            the cut of the frozen prefix share. No name is "head" or begins with "head.".
        weights_source: where the weights come from, as part of a sentence.
        weights_digest: sha256 of the loaded weights, empty when they are random.
    """

    feature_dim: int
    input: InputSpec
    layers: dict[str, list[str]]
    weights_source: str
    weights_digest: str

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D) of images (B, C, H, W)."""


class Head(nn.Module, ABC):
    """Turns features into an embedding and logits. Runs in the precision of its weights, never under autocast."""

    @abstractmethod
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E), the input of the last linear layer, and logits (B, K) of features (B, D)."""

    def tasks(self, embedding: Tensor) -> dict[str, Tensor]:
        """What it says of each further task, (B, outputs), from an embedding (B, E); most heads know of none."""
        return {}


class FittedHead(Head):
    """A head without parameters that is fitted to all training rows at once, on a backbone that is frozen.

    What was fitted is its state (`get_extra_state`, `set_extra_state`), a tensor, and so stands in the weights file.

    Attributes:
        about: what it is, for the first screen.
    """

    about: str

    @property
    @abstractmethod
    def takes_weights(self) -> bool:
        """Whether `fit` can tell rows of more and of less weight."""

    @abstractmethod
    def fit(self, features: Tensor, labels: Tensor, weights: Tensor | None, seed: int) -> None:
        """Fit to rows.

        Args:
            features: (N, D).
            labels: (N,) int64.
            weights: (N,) of the rows, None where all weigh the same.
            seed: of whatever is drawn.
        """
