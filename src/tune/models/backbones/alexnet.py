from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, final

from torch import nn

from tune.models.interface import Backbone, InputSpec
from tune.models.scratch import complete
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class AlexNet(Backbone):
    """AlexNet up to its second layer of 4,096 units, as published: two groups, response normalisation, dropout of 0.5.

    Weights start from a normal distribution of sd 0.01, biases of the second, fourth and fifth convolution and of the
    linear layers at 1, all others at 0.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", sections 3 and 5.
    Their images of 224 pixels only fit their maps with 227, which we take; no colour change of theirs is drawn here.

    Args:
        weights: none (random), run:ID (a finished run) or a file.
        input_size: height and width of the images, pixels.
        output: folder below which `run:ID` is looked for.
    """

    def __init__(
        self, weights: str = "none", input_size: Annotated[int, Range("[67, inf)")] = 227, output: str = "outputs"
    ) -> None:
        super().__init__()
        self.input = InputSpec((input_size, input_size), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
        self.conv1 = _stage(nn.Conv2d(3, 96, 11, 4), respond=True, pool=True)
        self.conv2 = _stage(nn.Conv2d(96, 256, 5, padding=2, groups=2), respond=True, pool=True)
        self.conv3 = _stage(nn.Conv2d(256, 384, 3, padding=1))
        self.conv4 = _stage(nn.Conv2d(384, 384, 3, padding=1, groups=2))
        self.conv5 = _stage(nn.Conv2d(384, 256, 3, padding=1, groups=2), pool=True)
        side = _side_of_the_last_map(input_size)
        self.fc6 = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(256 * side**2, 4096), nn.ReLU())
        self.fc7 = nn.Sequential(nn.Dropout(0.5), nn.Linear(4096, 4096), nn.ReLU())
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.constant_(module.bias, 0.0 if name.startswith(("conv1", "conv3")) else 1.0)
        complete(self, weights, output)

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 4096)."""
        for layer in self.children():
            images = layer(images)
        return images


def _stage(conv: nn.Conv2d, respond: bool = False, pool: bool = False) -> nn.Sequential:
    parts: dict[str, nn.Module] = {"conv": conv, "act": nn.ReLU()}
    if respond:
        # torch divides alpha by the number of channels, the paper does not: 5 · 1e-4.
        parts["respond"] = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    if pool:
        parts["pool"] = nn.MaxPool2d(3, 2)
    return nn.Sequential(OrderedDict(parts))


def _side_of_the_last_map(size: int) -> int:
    size = (size - 11) // 4 + 1
    for _ in range(3):
        size = (size - 3) // 2 + 1
    return size
