"""What every reader of data gives, and where readers find the data inside an installed package."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path

from tune.data.table import Table
from tune.errors import MissingExtra


class Reader(ABC):
    """Knows where rows and labels come from."""

    @abstractmethod
    def read(self) -> Table:
        """All rows, in an order that depends on the data alone.

        Raises:
            DataError: if rows or labels cannot be used; holds every problem found.
            MissingExtra: if the data lie in a package that is not installed.
        """


def packaged_file(package: str, file: str, install: str, extra: str) -> Path:
    """Path of a data file that ships inside an installed package; the package is not imported.

    Args:
        package: top-level name as in ``import``.
        file: path relative to the package's folder.
        install: name as in ``pip install``.
        extra: the extra of ours that brings it.

    Raises:
        MissingExtra: if the package, or its file, is not there.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("data", install, extra)
    path = Path(next(iter(spec.submodule_search_locations))) / file
    if not path.exists():
        raise MissingExtra("data", f"--force-reinstall {install}", extra)
    return path
