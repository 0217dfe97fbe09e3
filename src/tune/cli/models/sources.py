"""The images that words of a command line name: files, folders, patterns, lists in a CSV file or on stdin."""

from __future__ import annotations

import csv
import glob
import sys
from collections.abc import Iterable
from pathlib import Path

from tune.errors import ConfigError, DataError, Problem


def images_of(words: Iterable[str], root: Path | None = None) -> list[Path]:
    """Files in the order of the words; a folder or a pattern in the order of paths.

    A file that is named is taken whatever it is called; of a folder, at any depth, those with the ending of an image. A
    CSV file has a column `path`; its relative paths start from `root`, else from its own folder. The word `-` reads one
    name per line from stdin; those start from `root`, else from where the command runs.

    Raises:
        ConfigError: with every word that names nothing.
    """
    found: list[Path] = []
    problems: list[Problem] = []
    for word in words:
        path = Path(word).expanduser()
        try:
            if word == "-":
                names = [line.strip() for line in sys.stdin]
                found += [(root or Path()) / Path(name).expanduser() for name in names if name]
            elif path.is_dir():
                found += _below(path)
            elif path.is_file():
                found += _listed(path, root) if path.suffix.lower() == ".csv" else [path]
            else:
                found += _matching(word)
        except DataError as error:
            problems += [Problem(word, each.text, "command line") for each in error.problems]
    if problems:
        raise ConfigError(*problems)
    if not found:
        raise ConfigError(Problem("PATH", "names no image", "command line"))
    return found


def _below(folder: Path) -> list[Path]:
    from tune.data.readers.folder import Folder

    images, others = Folder().walk(folder)
    if not images:
        kinds = f", only {' '.join(sorted(others))}" if others else ""
        raise DataError(Problem("", f"holds no image at any depth{kinds}"))
    return [Path(image) for image in images]


def _listed(file: Path, root: Path | None) -> list[Path]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        try:
            rows = csv.DictReader(text, skipinitialspace=True)
            if "path" not in (rows.fieldnames or []):
                raise DataError(Problem("", f"has no column path. It has: {', '.join(rows.fieldnames or [])}"))
            names = [(row["path"] or "").strip() for row in rows]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(Problem("", f"is no CSV text in UTF-8: {error}")) from error
    if "" in names:
        raise DataError(Problem("", f"row {names.index('') + 1} has no path"))
    return [(root or file.parent) / Path(name).expanduser() for name in names]


def _matching(word: str) -> list[Path]:
    from tune.data.paths import existing

    if not glob.has_magic(word):
        existing("PATH", word, "file")  # says what there is of a similar name
    images = [Path(name) for name in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207 -- Path has no absolute
    if not any(path.is_file() for path in images):
        raise DataError(Problem("", "matches no file"))
    return [path for path in images if path.is_file()]
