"""Random changes of training images, as one flat set of strengths that are all off by default.

An option of ``conf/augment`` is a preset; any two can be combined: ``augment=mild augment.mixup=0.2``. What is drawn
for a row depends on (seed, epoch, row) only.
"""

from __future__ import annotations

from typing import Annotated, final

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as pixel

from tune.errors import ConfigError
from tune.ranges import Range

_RATIO = 4 / 3
_KNOTS = 3
_MAGNITUDE = 9


@final
class Augment:
    """Changes one training image at a time; applied in the order of the arguments.

    The crop is drawn on the image as it is in the file, before it is resized once to the network's input. Everything
    else acts on pixels of that size, 0-255 (noise and lighting on 0-1, clipped), before they are normalised. What a
    shift or turn uncovers is black. mixup and cutmix act on finished batches (see `tune.data.mix`); with both, each
    batch draws one.

    Args:
        crop: smallest share of the image's area that a random crop keeps; 1 for no crop.
        crop_ratio: widest stretch of the crop's aspect ratio, one way or the other.
        flip_horizontal: probability.
        flip_vertical: probability.
        rotate: largest angle, degrees, to either side.
        translate: largest shift, as a share of the side.
        zoom: scale drawn from 1 - zoom to 1 + zoom.
        shear: largest angle, degrees.
        elastic: standard deviation of the shift at each knot of a grid, as a share of the side; smooth in between.
        elastic_knots: knots of the grid along a side; more bend the image more finely.
        randaugment: number of operations drawn per image (Cubuk et al. 2020; torchvision's 14 operations).
        randaugment_magnitude: their strength.
        trivialaugment: one operation of random strength per image (Müller and Hutter 2021, "wide").
        brightness: factor drawn from 1 - x to 1 + x; contrast, saturation likewise.
        contrast: see brightness.
        saturation: see brightness.
        hue: largest turn of the colour circle.
        lighting: standard deviation of the shift along the principal colours of ImageNet (the paper's is 0.1).
        noise: standard deviation of Gaussian noise on each value (pixels 0-1).
        erase: probability of blanking a rectangle of 2-33 % of the area (Zhong et al. 2017), in black.
        mixup: parameter of the Beta distribution; 0 for none.
        cutmix: parameter of the Beta distribution; 0 for none.

    Raises:
        ConfigError: for a key that has no effect, because what it belongs to is off.
    """

    def __init__(
        self,
        crop: Annotated[float, Range("(0, 1]")] = 1.0,
        crop_ratio: Annotated[float, Range("[1, 10]")] = _RATIO,
        flip_horizontal: Annotated[float, Range("[0, 1]")] = 0.0,
        flip_vertical: Annotated[float, Range("[0, 1]")] = 0.0,
        rotate: Annotated[float, Range("[0, 180]")] = 0.0,
        translate: Annotated[float, Range("[0, 1]")] = 0.0,
        zoom: Annotated[float, Range("[0, 1)")] = 0.0,
        shear: Annotated[float, Range("[0, 80]")] = 0.0,
        elastic: Annotated[float, Range("[0, 0.5]")] = 0.0,
        elastic_knots: Annotated[int, Range("[2, 64]")] = _KNOTS,
        randaugment: Annotated[int, Range("[0, 14]")] = 0,
        randaugment_magnitude: Annotated[int, Range("[0, 30]")] = _MAGNITUDE,
        trivialaugment: bool = False,
        brightness: Annotated[float, Range("[0, 1]")] = 0.0,
        contrast: Annotated[float, Range("[0, 1]")] = 0.0,
        saturation: Annotated[float, Range("[0, 1]")] = 0.0,
        hue: Annotated[float, Range("[0, 0.5]")] = 0.0,
        lighting: Annotated[float, Range("[0, 1]")] = 0.0,
        noise: Annotated[float, Range("[0, 1]")] = 0.0,
        erase: Annotated[float, Range("[0, 1]")] = 0.0,
        mixup: Annotated[float, Range("[0, inf)")] = 0.0,
        cutmix: Annotated[float, Range("[0, inf)")] = 0.0,
    ):
        _refuse_idle(
            ("crop_ratio", crop_ratio != _RATIO, "crop below 1", crop < 1),
            ("elastic_knots", elastic_knots != _KNOTS, "elastic", elastic > 0),
            ("randaugment_magnitude", randaugment_magnitude != _MAGNITUDE, "randaugment", randaugment > 0),
        )
        self.crop, self.crop_ratio = crop, crop_ratio
        self.mixup, self.cutmix = mixup, cutmix
        smooth = v2.InterpolationMode.BILINEAR
        steps: list[torch.nn.Module] = []
        if flip_horizontal:
            steps.append(v2.RandomHorizontalFlip(flip_horizontal))
        if flip_vertical:
            steps.append(v2.RandomVerticalFlip(flip_vertical))
        if rotate or translate or zoom or shear:
            scale = (1 - zoom, 1 + zoom) if zoom else None
            steps.append(
                v2.RandomAffine((-rotate, rotate), (translate, translate), scale, shear or None, interpolation=smooth)
            )
        if elastic:
            steps.append(Elastic(elastic, elastic_knots))
        if randaugment:
            steps.append(v2.RandAugment(randaugment, randaugment_magnitude, interpolation=smooth))
        if trivialaugment:
            steps.append(v2.TrivialAugmentWide(interpolation=smooth))
        if brightness or contrast or saturation or hue:
            steps.append(v2.ColorJitter(brightness, contrast, saturation, hue))
        if lighting:
            steps.append(Lighting(lighting))
        if noise:
            steps += [v2.ToDtype(torch.float32, scale=True), v2.GaussianNoise(sigma=noise)]
        if erase:
            steps.append(v2.RandomErasing(erase))
        self.steps = steps

    @property
    def changes_pixels(self) -> bool:
        """False when each row looks the same in every epoch, apart from mixing."""
        return bool(self.steps) or self.crop < 1

    @property
    def mixes(self) -> bool:
        """True when rows of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def draw_crop(self, image: Image.Image, aspect: float) -> tuple[float, float, float, float]:
        """Box (left, top, right, bottom) to use of the image; the whole image without a crop.

        Args:
            image: before it is resized.
            aspect: width / height that the box has when it is not stretched.
        """
        if self.crop == 1:
            return (0, 0, image.width, image.height)
        ratio = [aspect / self.crop_ratio, aspect * self.crop_ratio]
        top, left, height, width = v2.RandomResizedCrop.get_params(image, [self.crop, 1.0], ratio)
        return (left, top, left + width, top + height)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(3, H, W) uint8 to (3, H, W) uint8, or float32 from 0 to 1."""
        for step in self.steps:
            pixels = step(pixels)
        return pixels


@final
class Elastic(v2.Transform):
    """Bends an image: random shifts at the knots of a coarse grid, smooth in between. What comes in from outside is
    black.

    Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", section 3.1 (3×3
    grid, 10 of 572 pixels, bicubic). Strength is a share of the side here, so that it fits any input size.
    """

    def __init__(self, strength: float, knots: int):
        super().__init__()
        self.strength, self.knots = strength, knots

    def forward(self, pixels: Tensor) -> Tensor:
        """(3, H, W) to the same shape and dtype."""
        drawn = torch.randn(1, 2, self.knots, self.knots)
        field = F.interpolate(drawn, pixels.shape[-2:], mode="bicubic", align_corners=True)  # (1, 2, H, W)
        # The field is in units of half a side: -1 to 1 spans the image.
        return pixel.elastic(pixels, (2 * self.strength * field).permute(0, 2, 3, 1), v2.InterpolationMode.BILINEAR)


@final
class Lighting(v2.Transform):
    """Adds to all pixels of an image one random mixture of the principal colours of ImageNet.

    Source: Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", section 4.1;
    values of the principal components from facebook/fb.resnet.torch, for pixels 0-1. The result is clipped to 0-1.
    """

    def __init__(self, strength: float):
        super().__init__()
        self.strength = strength
        self.values = torch.tensor([0.2175, 0.0188, 0.0045])
        self.vectors = torch.tensor(
            [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
        )  # rows R, G, B; a column per component

    def forward(self, pixels: Tensor) -> Tensor:
        """(3, H, W), uint8 or float, to float32 0-1."""
        drawn = torch.randn(3) * self.strength
        shift = self.vectors @ (drawn * self.values)  # (3,)
        return (pixel.to_dtype(pixels, torch.float32, scale=True) + shift[:, None, None]).clamp_(0, 1)


def _refuse_idle(*keys: tuple[str, bool, str, bool]) -> None:
    """Keys that were changed while what they belong to is off."""
    idle = [(key, owner) for key, is_set, owner, is_on in keys if is_set and not is_on]
    if idle:
        raise ConfigError(*(f"augment.{key}: has no effect without {owner}" for key, owner in idle))
