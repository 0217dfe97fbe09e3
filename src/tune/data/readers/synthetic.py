from __future__ import annotations

from typing import Annotated, final

import numpy as np

from tune.data.readers.interface import Reader
from tune.data.table import Table
from tune.ranges import Range

_SHAPES = ["disk", "square", "cross", "ring", "stripes", "triangle", "diamond", "checks"]


@final
class Synthetic(Reader):
    """Bright shapes on a dark, noisy ground, drawn in memory: for tests, for CI, and to try a configuration.

    Each row draws at random its position, size (0.25-0.4 of the side, from the middle to the edge), colour and ground.
    Classes have equal numbers of rows, up to one, and are interleaved. Colour tells nothing about the
    class. Columns: ``x``, ``y`` and ``radius`` of the shape, as shares of the side, and ``half``, left or right.

    Args:
        classes: the first so many of disk, square, cross, ring, stripes, triangle, diamond, checks.
        rows: number of images.
        size: side in pixels.
        noise: standard deviation added to each pixel and channel (pixels 0-1).
        seed: two readers with equal arguments give equal tables.
    """

    def __init__(
        self,
        classes: Annotated[int, Range("[2, 8]")] = 3,
        rows: Annotated[int, Range("[2, inf)")] = 300,
        size: Annotated[int, Range("[8, 1024]")] = 32,
        noise: Annotated[float, Range("[0, 1]")] = 0.05,
        seed: Annotated[int, Range("[0, inf)")] = 0,
    ):
        self.classes = classes
        self.rows = rows
        self.size = size
        self.noise = noise
        self.seed = seed

    def read(self) -> Table:
        """Rows 0, 1, 2, … of classes 0, 1, 2, … in turn."""
        labels = np.arange(self.rows, dtype=np.int64) % self.classes
        # One stream per row: the first rows of a longer table are those of a shorter one.
        drawn = [self._draw(int(label), row) for row, label in enumerate(labels)]
        x, y, radius = (np.array([place[i] for _, place in drawn]) for i in range(3))
        return Table(
            names=[f"row {row}" for row in range(self.rows)],
            labels=labels,
            classes=_SHAPES[: self.classes],
            images=np.stack([image for image, _ in drawn]),
            columns={"x": x, "y": y, "radius": radius, "half": np.where(x < 0.5, "left", "right")},
            about=f"{self.size}×{self.size} pixels",
        )

    def _draw(self, label: int, row: int) -> tuple[np.ndarray, tuple[float, float, float]]:
        """The image, and x, y and radius of its shape."""
        draw = np.random.default_rng([self.seed, row])
        radius = draw.uniform(0.25, 0.40)
        x, y = draw.uniform(radius, 1 - radius, size=2)
        ground, colour = draw.uniform(0.0, 0.3, size=3), draw.uniform(0.6, 1.0, size=3)
        pixel = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size
        inside = _shape(_SHAPES[label], (pixel[None, :] - x) / radius, (pixel[:, None] - y) / radius)
        image = np.where(inside[:, :, None], colour, ground)
        image = image + self.noise * draw.standard_normal(image.shape, dtype=np.float32)
        return np.rint(image.clip(0, 1) * 255).astype(np.uint8), (x, y, radius)


def _shape(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(H, W) bool: inside the shape, which fills the square -1 to 1 of ``u`` (right) and ``v`` (down)."""
    square = (abs(u) < 0.9) & (abs(v) < 0.9)
    distance = np.hypot(u, v)
    match name:
        case "disk":
            return distance < 1
        case "square":
            return square
        case "cross":
            return square & ((abs(u) < 0.3) | (abs(v) < 0.3))
        case "ring":
            return (distance < 1) & (distance > 0.6)
        case "stripes":
            return square & (np.floor((v + 1) * 2.5) % 2 == 0)
        case "triangle":
            return (v < 0.8) & (2 * abs(u) < v + 1)
        case "diamond":
            return abs(u) + abs(v) < 1
        case "checks":
            return square & ((np.floor((u + 1) * 2) + np.floor((v + 1) * 2)) % 2 == 0)
    raise AssertionError(name)
