"""The whole network: backbone and head."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from tune.batch import Output
from tune.models.align import Align
from tune.models.heads.dropout import KeyedDropout

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tune.models.interface import Backbone, Head


@final
class Network(nn.Module):
    """Backbone and head as one.

    Attributes:
        layers: the backbone's, then "head"; names of parameters and buffers are those of the network.
        frozen_dtype: when set, a backbone that is frozen as a whole runs in this dtype and without gradients.
        align: what moves the target's features towards the source's, where a transfer method has one.
        domain: whose rows come in; only those of the target are moved.
        suffix: (B, N), whether in training → features (B, D): the backbone behind the part of it that is frozen.
    """

    def __init__(self, backbone: Backbone, head: Head, *, aligned: bool = False) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.frozen_dtype: torch.dtype | None = None
        self.align = Align(backbone.feature_dim) if aligned else None
        self.domain = "target"
        self.suffix: Callable[[Tensor, bool], Tensor] | None = None
        self.layers = {layer: [f"backbone.{name}" for name in names] for layer, names in backbone.layers.items()}
        tensors = [*head.named_parameters(), *head.named_buffers()]
        self.layers["head"] = [f"head.{name}" for name, _ in tensors]
        if self.align is not None:
            self.layers["head"] += [f"align.{name}" for name, _ in self.align.named_buffers()]
        self._dropouts = [module for module in self.modules() if isinstance(module, KeyedDropout)]

    @property
    def embedding_dim(self) -> int:
        """E, the number of inputs of the last linear layer."""
        was_training, weight = self.head.training, next(self.head.parameters(), torch.zeros(()))
        self.head.eval()
        with torch.no_grad():
            embedding, _ = self.head(weight.new_zeros(2, self.backbone.feature_dim))
        self.head.train(was_training)
        return embedding.shape[1]

    def set_step(self, seed: int, step: int) -> None:
        """Key every dropout mask of the next forward pass by (seed, step, number of the dropout layer)."""
        for number, dropout in enumerate(self._dropouts):
            dropout.key = (seed, step, number)

    def forward(self, images: Tensor) -> Output:
        """Features, embedding and logits of images (B, C, H, W), or of what its frozen part says of them (B, N)."""
        return self.judge(self.features(images))

    def judge(self, features: Tensor) -> Output:
        """Embedding and logits of features (B, D)."""
        # Heads in bf16 differ by 8e-3 between a run and the same run in a fused sweep; in fp32 they agree.
        with torch.autocast(features.device.type, enabled=False):
            if self.align is not None and self.domain == "target":
                embedding, logits = self.head(self.align(features))  # (B, E), (B, K)
            else:
                embedding, logits = self.head(features)
            tasks = {name: said.float() for name, said in self.head.tasks(embedding).items()}
        return Output(features, embedding, logits.float(), tasks=tasks)

    def features(self, images: Tensor) -> Tensor:
        """What the head takes, (B, D), in the precision of its weights, of what `forward` takes."""
        dtype = next((parameter.dtype for parameter in self.head.parameters()), torch.float32)
        if images.ndim == 2:
            assert self.suffix is not None, "the network was not cut"
            return self.suffix(images.to(dtype), self.training).to(dtype)
        with self._backbone_context(images):
            return self.backbone(images).to(dtype)

    def _backbone_context(self, images: Tensor) -> torch.autocast | nullcontext[None]:
        if self.frozen_dtype is None or any(p.requires_grad for p in self.backbone.parameters()):
            return nullcontext()
        # Without a parameter that requires a gradient autograd records nothing, unless the images ask for one.
        return torch.autocast(images.device.type, dtype=self.frozen_dtype)
