"""From an image to the tensor that the network takes: resized once, changed at random (in training), normalised."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as pixel

from tune.data.augment import Augment
from tune.data.images import open_image
from tune.data.pixels import Picture
from tune.errors import ConfigError

Fit = Literal["crop", "stretch", "pad"]


@final
class InputTransform:
    """Reads, resizes and normalises as the backbone was trained.

    Args:
        size: (H, W) of the network's input.
        mean: of each channel, pixels 0-1.
        std: of each channel.
        interpolation: Pillow's name: bilinear, bicubic, lanczos, nearest, box or hamming; smooth when shrinking.
        fit: ``crop`` keeps the middle of what fits the shorter side; ``stretch`` changes the aspect ratio; ``pad``
            shows everything and fills up with the mean colour.
    """

    def __init__(
        self,
        size: tuple[int, int],
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
        interpolation: str = "bilinear",
        fit: Fit = "crop",
    ):
        if interpolation.upper() not in Image.Resampling.__members__:
            known = ", ".join(name.lower() for name in Image.Resampling.__members__)
            raise ConfigError(f"backbone: interpolation {interpolation} is unknown. There are: {known}")
        self.size = (int(size[0]), int(size[1]))
        self.resampling = Image.Resampling[interpolation.upper()]
        self.fit = fit
        self.mean = torch.tensor(mean, dtype=torch.float32)[:, None, None]  # (C, 1, 1)
        self.std = torch.tensor(std, dtype=torch.float32)[:, None, None]

    def identity(self) -> str:
        """All that decides the pixels beside the image."""
        return f"{self.size} {self.resampling.name} {self.fit} {self.mean.tolist()} {self.std.tolist()}"

    def __call__(self, image: Path | str | np.ndarray | Image.Image, augment: Augment | None = None) -> Tensor:
        """(3, H, W) float32, normalised.

        Args:
            image: a file; or uint8 (H, W), (H, W, 1) or (H, W, 3); or a Pillow image of mode "L" or "RGB".
            augment: random changes, drawn from torch's CPU generator.

        Raises:
            DataError: if the file cannot be read.
        """
        return self.finish(self.start(image, augment), augment)

    def pixels(self, image: Path | str | np.ndarray | Image.Image) -> Tensor:
        """(3, H, W) float32, 0-1: the image as the network sees it, before it is normalised.

        Raises:
            DataError: if the file cannot be read.
        """
        return pixel.to_dtype(self.resized(image), torch.float32, scale=True)

    def resized(self, image: Path | str | np.ndarray | Image.Image) -> Tensor:
        """(3, H, W) uint8: what `finish` makes the network's input of, alone or as a batch.

        Raises:
            DataError: if the file cannot be read.
        """
        return self._fitted(as_picture(image), None).expand(3, -1, -1)

    def start(self, image: Path | str | np.ndarray | Image.Image, augment: Augment | None = None) -> Picture:
        """What of the way to a tensor is the same each time: all but what is random, and a random crop is resized.

        Returns:
            The resized pixels, uint8 (3, H, W) or (1, H, W) for grey; the decoded picture if a crop is drawn from it.

        Raises:
            DataError: if the file cannot be read.
        """
        picture = as_picture(image)
        return picture if augment is not None and augment.crop < 1 else self._fitted(picture, None)

    def finish(self, started: Picture, augment: Augment | None = None) -> Tensor:
        """(3, H, W) float32, normalised, of what `start` gave; leaves that as it is."""
        pixels = started if isinstance(started, Tensor) else self._fitted(started, augment)
        if augment is not None:
            pixels = augment(pixels.expand(3, -1, -1).clone(memory_format=torch.contiguous_format))
        pixels = pixel.to_dtype(pixels, torch.float32, scale=True)
        return (pixels - self.mean).div_(self.std)

    def undone(self, images: Tensor) -> Tensor:
        """Pixels again, uint8 (B, 3, H, W), of what is normalised (B, 3, H, W)."""
        return ((images * self.std + self.mean).clamp(0, 1) * 255).round().to(torch.uint8)

    def _fitted(self, picture: Image.Image, augment: Augment | None) -> Tensor:
        """(3, H, W) uint8, (1, H, W) for grey, resized once."""
        height, width = self.size
        box = (0.0, 0.0, float(picture.width), float(picture.height))
        if augment is not None:
            aspect = width / height if self.fit == "crop" else picture.width / picture.height
            box = augment.draw_crop(picture, aspect)
        if self.fit == "pad":
            return self._padded(picture, box)
        if self.fit == "crop" and (augment is None or augment.crop == 1):
            box = _middle(picture.width, picture.height, width / height)
        return _as_pixels(picture.resize((width, height), self.resampling, box))

    def _padded(self, picture: Image.Image, box: tuple[float, float, float, float]) -> Tensor:
        height, width = self.size
        scale = min(width / (box[2] - box[0]), height / (box[3] - box[1]))
        inner = (max(1, round((box[2] - box[0]) * scale)), max(1, round((box[3] - box[1]) * scale)))
        canvas = (self.mean * 255).round().to(torch.uint8).expand(3, height, width).clone()
        top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
        shown = _as_pixels(picture.resize(inner, self.resampling, box))
        canvas[:, top : top + inner[1], left : left + inner[0]] = shown  # grey three times over
        return canvas


def as_picture(image: Path | str | np.ndarray | Image.Image) -> Image.Image:
    """The image of a file or of an array, of mode "L" or "RGB".

    Raises:
        DataError: if the file cannot be read.
    """
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image)
    return open_image(Path(image))


def _as_pixels(picture: Image.Image) -> Tensor:
    """(3, H, W) uint8, or (1, H, W) for grey."""
    values = torch.from_numpy(np.array(picture))  # a copy, since torch wants to be able to write
    if values.ndim == 2:
        return values[None]
    return values.permute(2, 0, 1).contiguous()


def _middle(width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
    """Largest centred box of this width / height: resizing it is "shorter side to size, then centre crop" at once."""
    inner_width, inner_height = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - inner_width) / 2, (height - inner_height) / 2
    return (left, top, min(left + inner_width, width), min(top + inner_height, height))
