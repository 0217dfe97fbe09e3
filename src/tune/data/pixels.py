"""Images that are read in every epoch, kept in memory as far as there is room."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
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
        self._rows: dict[tuple[str, int], Picture] = {}

    def take(self, kind: str, row: int, make: Callable[[], Picture]) -> Picture:
        """What is kept of a row in some kind, or what `make` gives; nobody may change it."""
        kept = self._rows.get((kind, row))
        if kept is None:
            kept = make()
            size = _bytes(kept)
            if self.num_bytes + size <= self.max_bytes:
                self._rows[kind, row] = kept
                self.num_bytes += size
        return kept


def free_bytes() -> int:
    """Memory that this process may take: what is available, or is left of a container's limit, shared among the jobs of
    a sweep; 4 GB where the system does not tell.
    """
    jobs = int(os.environ.get("TUNE_JOBS", 1))
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = 4 << 30
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, max(0, limit - used))
    return free // jobs


def _bytes(picture: Picture) -> int:
    if isinstance(picture, torch.Tensor):
        return picture.numel() * picture.element_size()
    return picture.width * picture.height * (1 if picture.mode == "L" else 4)  # Pillow pads RGB
