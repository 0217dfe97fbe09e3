from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, final

import torch.nn.functional as F

from tune.errors import ConfigError
from tune.models.activations import Activation
from tune.models.heads.linear import output_layer
from tune.models.heads.mlp import hidden_layers
from tune.models.interface import Head
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class MultiTaskHead(Head):
    """Linear outputs for the label and for each task of `data.tasks`, on the same embedding.

    They are rows of one last linear layer: first those of the label's classes, then those of each task.

    Args:
        feature_dim: D, from the backbone.
        num_classes: K, from the data.
        tasks: outputs of each task, from the data.
        hidden: units of each hidden layer, which all tasks share; none by default.
        activation: after each hidden layer.
        weights: of the losses: ``fixed`` as `data.tasks` says, or learned from the ``uncertainty`` of each task
            (see `TaskLosses`).
        dropout: share of each linear layer's inputs that are dropped in training, from `regularize.dropout`.

    Raises:
        ConfigError: if there is an activation and no layer for it.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        tasks: dict[str, int],
        hidden: list[Annotated[int, Range("[1, inf)")]] | None = None,
        activation: Activation = "relu",
        weights: Literal["fixed", "uncertainty"] = "fixed",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden or []
        if activation != "relu" and not hidden:
            raise ConfigError("head.activation: has no effect without a hidden layer: head.hidden=[256]")
        self.num_classes, self.outputs, self.weights = num_classes, dict(tasks), weights
        self.hidden = hidden_layers(feature_dim, hidden, activation, dropout)
        self.linear = output_layer([feature_dim, *hidden][-1], num_classes + sum(tasks.values()))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, E), dropout applied, and logits (B, K)."""
        embedding = self.hidden(features)  # (B, E)
        own = self.num_classes
        return embedding, F.linear(embedding, self.linear.weight[:own], self.linear.bias[:own])  # (B, K)

    def tasks(self, embedding: Tensor) -> dict[str, Tensor]:
        weight, bias = self.linear.weight[self.num_classes :], self.linear.bias[self.num_classes :]
        said = F.linear(embedding, weight, bias).split(list(self.outputs.values()), dim=1)
        return dict(zip(self.outputs, said, strict=True))
