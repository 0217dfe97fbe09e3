from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn
from torch.nn import functional as F

from tune.errors import ConfigError
from tune.models.interface import Backbone, InputSpec

if TYPE_CHECKING:
    from torch import Tensor


@final
class PairBackbone(Backbone):
    """Two backbones side by side: both see the image, each in its own size, and their features stand in one row.

    Images come in the larger of the two sizes; the other backbone gets them resized (bilinear, antialiased), and each
    normalised as its weights want it. Layers are called ``first.NAME`` and ``second.NAME``, ordered by their share of
    the depth of their backbone, so that a cut at a third leaves the last third of both to train.

    Args:
        first: a backbone of its own.
        second: another.

    Raises:
        ConfigError: if one has random weights beside pretrained ones: the head would mostly see noise.
    """

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        parts: dict[str, Backbone] = {"first": first, "second": second}
        random = [name for name, part in parts.items() if not part.weights_digest]
        if len(random) == 1:
            raise ConfigError(f"backbone.{random[0]}.weights: random weights beside pretrained ones are only noise.")
        sizes = [part.input.size for part in parts.values()]
        size = max(sizes)
        if size != (max(height for height, _ in sizes), max(width for _, width in sizes)):
            raise ConfigError(f"backbone: {sizes[0]} and {sizes[1]} pixels: one must be the larger both ways.")
        larger = parts["first"] if sizes[0] == size else parts["second"]
        self.input = InputSpec(size, larger.input.mean, larger.input.std, larger.input.interpolation)
        self.first, self.second = _Fitted(first, self.input), _Fitted(second, self.input)
        self.feature_dim = first.feature_dim + second.feature_dim
        self.weights_source = " beside ".join(part.weights_source for part in parts.values())
        digests = "".join(part.weights_digest for part in parts.values())
        self.weights_digest = hashlib.sha256(digests.encode()).hexdigest() if digests else ""
        shares: list[tuple[float, str, list[str]]] = []
        for name, part in parts.items():
            layers = {layer: [f"backbone.{tensor}" for tensor in tensors] for layer, tensors in part.layers.items()}
            own = [tensor for tensor, _ in self.get_submodule(name).named_buffers(recurse=False)]
            next(iter(layers.values())).extend(own)
            for number, (layer, tensors) in enumerate(layers.items(), start=1):
                inside = [f"{name}.{tensor}" for tensor in tensors]
                shares.append((number / len(layers), f"{name}.{layer}", inside))
        self.layers = {layer: names for _, layer, names in sorted(shares, key=lambda each: each[0])}

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D1 + D2), those of the first backbone first."""
        return torch.cat([self.first(images), self.second(images)], dim=1)


@final
class _Fitted(nn.Module):
    """A backbone behind what makes images for it of those that the pair gets."""

    def __init__(self, backbone: Backbone, given: InputSpec) -> None:
        super().__init__()
        self.backbone, self.size = backbone, backbone.input.size
        self.is_resized = given.size != self.size
        self.is_shifted = (given.mean, given.std) != (backbone.input.mean, backbone.input.std)
        if self.is_shifted:
            mean, std = torch.tensor(backbone.input.mean), torch.tensor(backbone.input.std)
            scale, shift = torch.tensor(given.std) / std, (torch.tensor(given.mean) - mean) / std
            self.register_buffer("scale", scale[:, None, None], persistent=False)
            self.register_buffer("shift", shift[:, None, None], persistent=False)
            self.scale: Tensor
            self.shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        if self.is_resized:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        if self.is_shifted:
            images = images * self.scale + self.shift
        return self.backbone(images)
