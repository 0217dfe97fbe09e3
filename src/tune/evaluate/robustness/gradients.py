"""What attacks raise: the loss of the run itself (white box), or how far the public teacher's features have moved."""

from __future__ import annotations

import contextlib
from itertools import takewhile
from typing import TYPE_CHECKING, final

import torch
from torch.nn import functional as F

from tune.features.graph import Uncut
from tune.features.prefix import cut_backbone

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from tune.evaluate.robustness.attacks import Raised
    from tune.models.interface import Backbone
    from tune.models.network import Network


@final
class Normalised:
    """Pixels 0-1 as a backbone wants them, in its dtype."""

    def __init__(self, backbone: Backbone) -> None:
        tensor = next(backbone.parameters())
        mean, std = (torch.tensor(each, device=tensor.device) for each in (backbone.input.mean, backbone.input.std))
        self.mean, self.std, self.dtype = mean[:, None, None], std[:, None, None], tensor.dtype

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) of pixels (B, C, H, W)."""
        return ((pixels - self.mean) / self.std).to(self.dtype)


@final
class WhiteBox:
    """A network as a function of pixels, without autocast and cuts: all of it has a gradient.

    Args:
        network: in eval mode.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.normalised = network, Normalised(network.backbone)

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, K)."""
        return self.network.judge(self.network.backbone(self.normalised(pixels))).logits

    def loss(self, labels: Tensor) -> Raised:
        """Cross-entropy of each row with its true class (B,).

        In float64: where a network is sure of itself float32 knows only that the loss is 0, and has no gradient.
        """
        return lambda pixels: F.cross_entropy(self.logits(pixels).double(), labels, reduction="none")


@final
class Teacher:
    """The public network that a student started from, seen at the layer where the student's freezing ends.

    An attack raises the mean squared difference between the features of the attacked image and those of the clean one.
    Nothing of the student takes part but the depth: neither its head, nor its weights, nor its labels. Where nothing of
    the student is frozen, or its backbone cannot be cut in two, the features are the output of the backbone.

    Source: Wang et al. 2018, "With Great Training Comes Great Vulnerability: Practical Attacks against Transfer
    Learning", eq. 1. They bring the features of one image near those of another, within a budget of structural
    similarity; we drive them away from where they were, within L∞, and so need no image of another class.

    Args:
        backbone: with the public weights, on the CPU; is frozen, put into eval mode and moved.
        trained: names of its parameters that train in the student.
        device: where it is to work.

    Attributes:
        where: the features, as part of a sentence.
    """

    def __init__(self, backbone: Backbone, trained: Collection[str], device: torch.device) -> None:
        backbone.eval().requires_grad_(False)
        backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.where = "at the backbone's output"
        self.cut = None
        with contextlib.suppress(Uncut):
            self.cut = cut_backbone(backbone, set(trained)) if trained else None
        if self.cut is not None:
            below = takewhile(lambda layer: not set(backbone.layers[layer]) & set(trained), backbone.layers)
            self.where = f"behind {list(below)[-1]}"
            self.cut.to(device)
        self.backbone = backbone.to(device)
        self.normalised = Normalised(backbone)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, N), all that crosses the cut."""
        images = self.normalised(pixels)
        return self.backbone(images) if self.cut is None else self.cut.pack(self.cut.prefix(images))

    def distance(self, clean: Tensor) -> Raised:
        """Mean squared difference of each row's features from those of the clean pixels (B, C, H, W); (B,)."""
        with torch.no_grad():
            there = self.features(clean)
        return lambda pixels: (self.features(pixels) - there).square().mean(dim=1)
