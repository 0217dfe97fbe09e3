"""What is known of the content of a run's images before any is decoded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tune.features import digests
from tune.features.cache import default_folder

if TYPE_CHECKING:
    from tune.data.table import Table
    from tune.features.options import CacheOptions


class Contents:
    """Digests of images, and which of them were decoded before.

    Args:
        options: of the cache; with ``never`` nothing is known, and nothing noted.
        table: all rows.

    Attributes:
        folder: of the cache.
        trouble: why the folder cannot be used, as part of a sentence; empty when it can.
    """

    def __init__(self, options: CacheOptions, table: Table) -> None:
        self.folder = Path(options.dir).expanduser() if options.dir else default_folder()
        self.trouble, self._of = "", dict[Path, str]()
        if options.mode == "never":
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not isinstance(table.images, np.ndarray):
                files = [image for image in table.images if isinstance(image, Path)]
                self._of = dict(zip(files, digests.file_digests(files, self.folder), strict=True))
        except OSError as error:
            self.trouble = f"{self.folder} cannot be used: {error.strerror}"

    def digests(self, table: Table) -> list[str]:
        """sha256 of the content of each row's image."""
        if isinstance(table.images, np.ndarray):
            return digests.array_digests(table.images)
        return [
            self._of[image] if isinstance(image, Path) else digests.array_digests(image[None])[0]
            for image in table.images
        ]

    def readable(self) -> set[Path]:
        """Files that were decoded to the end before, and are what they were then."""
        known = digests.readable(self.folder) if self._of else set()
        return {path for path, digest in self._of.items() if digest in known}

    def note_readable(self, table: Table) -> None:
        """Remember that the files of a table were decoded to the end."""
        if self._of:
            with suppress(OSError):  # then they are decoded again next time
                digests.note_readable(
                    self.folder, [self._of[image] for image in table.images if isinstance(image, Path)]
                )
