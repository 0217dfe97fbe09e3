"""Images that are read in every epoch, kept in memory as far as there is room."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import final

import torch
from PIL import Image

Picture = torch.Tensor | Image.Image


@final
class KeptPixels:
    """What was made of each row's image before anything random is done to it.

    Args:
        max_bytes: what all of it together may take; a row for which there is no room is made anew each time.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._rows: dict[int, Picture] = {}

    def take(self, row: int, make: Callable[[], Picture]) -> Picture:
        """What is kept of a row, or what `make` gives; nobody may change it."""
        kept = self._rows.get(row)
        if kept is None:
            kept = make()
            size = _bytes(kept)
            if self.num_bytes + size <= self.max_bytes:
                self._rows[row] = kept
                self.num_bytes += size
        return kept


def free_bytes() -> int:
    """Memory that is free now; 4 GB where the system does not tell."""
    if sys.platform == "linux":
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30


def _bytes(picture: Picture) -> int:
    if isinstance(picture, torch.Tensor):
        return picture.numel() * picture.element_size()
    return picture.width * picture.height * len(picture.getbands())
