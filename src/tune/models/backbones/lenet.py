from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, final

import torch
from torch import nn

from tune.models.interface import Backbone, InputSpec
from tune.models.scratch import complete
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

_TABLE = ["012", "123", "234", "345", "450", "501", "0123", "1234", "2345", "3450", "4501", "5012", "0134", "1245"]
_TABLE += ["0235", "012345"]
"""Which of the 6 maps below each of the 16 maps of C3 sees (table I of the paper)."""


@final
class LeNet(Backbone):
    """LeNet-5 up to its layer F6: 84 features of images of 32 × 32 pixels.

    Convolutions of 6 and 16 maps, 5 × 5, each followed by a subsampling (the mean of 2 × 2 pixels times a weight plus a
    bias per map), a convolution to 120 and a linear layer to 84. C3 sees the maps of the paper's table I.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", section II.B. We read three
    colour channels instead of one; for their output of Gaussian units take ``head=gaussian``.

    Args:
        activation: scaled_tanh is the paper's ``1.7159 tanh(2/3 x)``; relu is what one would write today.
        weights: none (random), run:ID (a finished run) or a file.
        input_size: height and width of the images, pixels; 28 more or less changes the number of positions of C5.
        output: folder below which `run:ID` is looked for.
    """

    def __init__(
        self,
        activation: Literal["scaled_tanh", "relu"] = "scaled_tanh",
        weights: str = "none",
        input_size: Annotated[int, Range("[32, 35]")] = 32,
        output: str = "outputs",
    ) -> None:
        super().__init__()
        self.input = InputSpec((input_size, input_size), (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.c1 = nn.Conv2d(3, 6, 5)
        self.s2 = _Subsampling(6)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.s4 = _Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        seen = torch.zeros(16, 6, 1, 1)
        for number, maps in enumerate(_TABLE):
            seen[number, [int(each) for each in maps]] = 1
        self.register_buffer("seen", seen, persistent=False)
        self.seen: Tensor
        self.act = _ScaledTanh() if activation == "scaled_tanh" else nn.ReLU()
        complete(self, weights, output)
        self.layers["c3"].append("seen")

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 84)."""
        maps = self.act(self.s2(self.c1(images)))  # (B, 6, 14, 14)
        maps = nn.functional.conv2d(maps, self.c3.weight * self.seen, self.c3.bias)  # (B, 16, 10, 10)
        maps = self.act(self.s4(maps))  # (B, 16, 5, 5)
        return self.act(self.f6(self.act(self.c5(maps)).flatten(1)))  # (B, 84)


@final
class _Subsampling(nn.Module):
    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(maps)), nn.Parameter(torch.zeros(maps))

    def forward(self, maps: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(maps, 2) * self.weight[:, None, None] + self.bias[:, None, None]


@final
class _ScaledTanh(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(values * (2 / 3))
