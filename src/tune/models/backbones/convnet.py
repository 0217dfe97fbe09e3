from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Literal, final

from torch import nn

from tune.errors import ConfigError, Problem
from tune.models.activations import Activation, activation_module, outputs_for
from tune.models.interface import Backbone, InputSpec
from tune.models.scratch import complete
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["batch", "layer", "instance", "group", "none"]
Pooling = Literal["max", "average", "lp", "conv"]


@final
class ConvNet(Backbone):
    """A plain stack of convolutions, to learn from: each is followed by a norm and an activation; pooling halves it.

    Args:
        depth: number of convolutions.
        width: channels of the first; they double after each pooling, up to eight times.
        activation: after each convolution and its norm.
        norm: batch, layer (over C, H, W of a row), instance (over H, W of each channel), group (4 groups) or none.
        kernel: height and width of each convolution, pixels, odd.
        stride: of the first convolution; all others have 1.
        padding: of the maps' borders: zero, or the nearest pixel.
        pooling: maximum, average or L2 norm of 2 × 2 pixels, or a convolution of stride 2 that learns.
        pool_every: convolutions between two poolings.
        readout: the last map as it is (flatten), or its average per channel.
        weights: none (random), run:ID (a finished run) or a file.
        input_size: height and width of the images, pixels.
        output: folder below which `run:ID` is looked for.

    Raises:
        ConfigError: if the kernel is even, or nothing is left of the map before the last pooling.
    """

    def __init__(
        self,
        depth: Annotated[int, Range("[1, inf)")] = 4,
        width: Annotated[int, Range("[1, inf)")] = 16,
        activation: Activation = "relu",
        norm: Norm = "batch",
        kernel: Annotated[int, Range("[1, inf)")] = 3,
        stride: Annotated[int, Range("[1, inf)")] = 1,
        padding: Literal["zero", "nearest"] = "zero",
        pooling: Pooling = "max",
        pool_every: Annotated[int, Range("[1, inf)")] = 2,
        readout: Literal["flatten", "average"] = "average",
        weights: str = "none",
        input_size: Annotated[int, Range("[1, inf)")] = 32,
        output: str = "outputs",
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ConfigError(Problem("backbone.kernel", f"must be odd, so that it has a middle pixel, not {kernel}"))
        if norm == "group" and width % 4:
            raise ConfigError(Problem("backbone.width", f"{width} channels cannot be divided into 4 groups"))
        self.input = InputSpec((input_size, input_size), (0.5,) * 3, (0.5,) * 3, "bilinear")
        mode = "zeros" if padding == "zero" else "replicate"
        channels, size = 3, -(-input_size // stride)
        for number in range(depth):
            wanted = width * min(8, 2 ** (number // pool_every))
            pools = (number + 1) % pool_every == 0
            if pools and size < 2:
                text = (
                    f"{depth} convolutions with a pooling after every {pool_every} leave nothing of {input_size} pixels"
                )
                raise ConfigError(Problem("backbone.depth", f"{text}; raise backbone.pool_every"))
            outputs = outputs_for(wanted, activation)
            parts: dict[str, nn.Module] = {
                "conv": nn.Conv2d(
                    channels,
                    outputs,
                    kernel,
                    stride if number == 0 else 1,
                    kernel // 2,
                    bias=norm == "none",
                    padding_mode=mode,
                ),
                "norm": _norm(norm, outputs),
                "act": activation_module(activation),
            }
            if pools:
                parts["pool"] = _pooling(pooling, wanted)
                size //= 2
            channels = wanted
            self.add_module(f"conv{number + 1}", nn.Sequential(OrderedDict(parts)))
        self.readout = nn.Flatten() if readout == "flatten" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        complete(self, weights, output)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D): the last map's averages (B, C), or all of it (B, C · H · W)."""
        for layer in self.children():
            images = layer(images)
        return images


def _norm(kind: Norm, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    # One group is layer norm over (C, H, W); a group per channel is instance norm. All have a scale and shift.
    groups = {"layer": 1, "instance": channels, "group": 4}
    return nn.Identity() if kind == "none" else nn.GroupNorm(groups[kind], channels)


def _pooling(kind: Pooling, channels: int) -> nn.Module:
    if kind == "conv":
        return nn.Conv2d(channels, channels, 2, 2)
    return {"max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2), "lp": nn.LPPool2d(2, 2)}[kind]
