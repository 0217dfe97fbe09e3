from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import final

import numpy as np

from tune.data.paths import IMAGE_EXTENSIONS, existing
from tune.data.readers.interface import Reader
from tune.data.table import Table
from tune.errors import DataError, Problem


@final
class Unlabelled(Reader):
    """All images of a folder, at any depth, none of which has a label; hidden files and folders are passed over.

    Args:
        root: the folder; relative to where the command runs.
        extensions: endings of image files, in any case.

    Raises:
        DataError: if the folder is missing or holds no image.
    """

    def __init__(
        self,
        root: str | None = None,
        extensions: list[str] = list(IMAGE_EXTENSIONS),  # noqa: B006 -- read only
    ):
        self.root = root
        self.extensions = tuple("." + ending.lower().lstrip(".") for ending in extensions)

    def read(self) -> Table:
        """Rows by path."""
        root = existing("data.root", self.root, "folder")
        found: list[Path] = []
        for folder, inside, files in os.walk(root):
            inside[:] = [name for name in inside if not name.startswith(".")]
            images = [name for name in files if not name.startswith(".") and name.lower().endswith(self.extensions)]
            found += [Path(folder) / name for name in images]
        if not found:
            raise DataError(Problem("data.root", f"no image in {root} (endings: {' '.join(self.extensions)})"))
        found.sort()
        return Table(
            names=[PurePath(path.relative_to(root)).as_posix() for path in found],
            labels=np.full(len(found), -1, dtype=np.int64),
            classes=[],
            images=found,
            about="no labels",
        )
