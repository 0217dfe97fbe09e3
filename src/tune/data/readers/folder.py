from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import final

import numpy as np

from tune.data.paths import IMAGE_EXTENSIONS, existing
from tune.data.readers.interface import Reader
from tune.data.table import Table, order_classes
from tune.errors import DataError, Problem

_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@final
class Folder(Reader):
    """A folder per class with its images at any depth; or train, val and test folders with class folders inside.

    The second form is taken when there is a train folder that holds folders and no image of its own; val or test may be
    missing and is then cut out of train. Also known: training, valid, validation, testing. Hidden files and folders are
    passed over, a folder reached twice through links is read once per class, and files of other endings and empty
    folders are named in the table's notes.

    Args:
        root: the folder; relative to where the command runs.
        classes: names of all class folders, in the order of their ids (with two, the second is the positive class);
            sorted when null, numbers by value.
        extensions: endings of image files, in any case.

    Raises:
        DataError: if the folder is missing, holds no images, or does not have one of the two forms.
    """

    def __init__(
        self,
        root: str | None = None,
        classes: list[str] | None = None,
        extensions: list[str] = list(IMAGE_EXTENSIONS),  # noqa: B006 -- read only
    ):
        self.root = root
        self.classes = classes
        self.extensions = tuple("." + ending.lower().lstrip(".") for ending in extensions)

    def read(self) -> Table:
        """Rows by class, then by path; split folders one after the other."""
        root = existing("data.root", self.root, "folder")
        top = self._scan(root)
        splits = _split_folders(top.folders)
        found = _Found()
        if self._is_split(splits):
            self._read_splits(root, top, splits, found)
        else:
            self._read_classes(root, "", top, found)
        if not found.problems and not found.names:
            endings = " ".join(self.extensions)
            found.problem(root, f"no image in {root}, which should hold a folder per class (endings: {endings})")
        classes = order_classes(self.classes, set(found.labels), found.problems)
        if found.problems:
            raise DataError(*found.problems)
        ids = {name: i for i, name in enumerate(classes)}
        return Table(
            names=found.names,
            labels=np.array([ids[label] for label in found.labels], dtype=np.int64),
            classes=classes,
            images=[root / name for name in found.names],
            split=np.array(found.splits) if any(found.splits) else None,
            notes=found.sentences(),
        )

    def _is_split(self, splits: dict[str, list[Path]]) -> bool:
        if "train" not in splits:
            return False
        tops = [self._scan(path) for path in splits["train"]]
        return all(top.folders and not top.images for top in tops)

    def _read_splits(self, root: Path, top: _Scan, splits: dict[str, list[Path]], found: _Found) -> None:
        others = [path for path in top.folders if path.name.lower() not in _SPLIT_FOLDERS]
        for path in others:
            if self.walk(path)[0]:
                found.problem(path, f"folder {path.name} stands beside train, so it is no class; move or rename it")
        found.refuse_loose(root, top)
        for split, paths in splits.items():
            if len(paths) > 1:
                found.problem(root, f"two folders for one part: {', '.join(path.name for path in paths)}")
            for path in paths:
                self._read_classes(path, split, self._scan(path), found, root)

    def _read_classes(self, top: Path, split: str, scan: _Scan, found: _Found, root: Path | None = None) -> None:
        root = root or top
        found.refuse_loose(top, scan)
        prefix = len(str(root)) if str(root).endswith(os.sep) else len(str(root)) + 1
        if len(scan.folders) == 1 and not split:
            only = scan.folders[0]
            inside = self._scan(only)
            if inside.folders and not inside.images:
                names = ", ".join(path.name for path in inside.folders[:4])
                found.problem(root, f"one class only, {only.name}, with folders in it ({names}). Did you mean {only}?")
                return
        for folder in scan.folders:
            images, others = self.walk(folder)
            found.others.update(others)
            if images:
                found.names += [PurePath(path[prefix:]).as_posix() for path in images]
                found.labels += [folder.name] * len(images)
                found.splits += [split] * len(images)
            elif others:
                kinds = " ".join(sorted(others))
                found.problem(folder, f"class folder {folder.name} holds no image, only {kinds}: {folder}")
            else:
                found.empty.append(str(folder)[prefix:])

    def _scan(self, path: Path) -> _Scan:
        """Folders, images and other files directly in a folder, sorted, hidden ones left out."""
        scan = _Scan()
        try:
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    if entry.is_dir():
                        scan.folders.append(path / entry.name)
                    elif entry.name.lower().endswith(self.extensions):
                        scan.images.append(entry.path)
                    else:
                        scan.others[os.path.splitext(entry.name)[1].lower() or entry.name] += 1  # noqa: PTH122 -- speed
        except OSError as error:
            raise DataError(Problem("data.root", f"cannot read {path}: {error.strerror}")) from error
        return scan

    def walk(self, folder: Path) -> tuple[list[str], Counter[str]]:
        """Images at any depth, in the order of their paths, and other files by ending."""
        images: list[str] = []
        others: Counter[str] = Counter()
        seen: set[tuple[int, int]] = set()
        waiting = [folder]
        while waiting:
            path = waiting.pop()
            stat = path.stat()
            if (stat.st_dev, stat.st_ino) in seen:  # a link back, or a second link to the same folder
                continue
            seen.add((stat.st_dev, stat.st_ino))
            scan = self._scan(path)
            images += scan.images
            others += scan.others
            waiting += reversed(scan.folders)
        return images, others


@dataclass
class _Scan:
    folders: list[Path] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


@dataclass
class _Found:
    """Rows so far, and what is wrong so far."""

    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: Path, text: str) -> None:
        self.problems.append(Problem("data.root", text, str(path)))

    def refuse_loose(self, path: Path, scan: _Scan) -> None:
        if scan.images:
            first = PurePath(scan.images[0]).name
            text = f"{len(scan.images)} images lie directly in {path} (first: {first}), not in the folder of a class"
            self.problem(path, f"{text}; move them, or list them with data=csv")

    def sentences(self) -> tuple[str, ...]:
        notes = []
        if self.others:
            kinds = ", ".join(f"{ending} {count}" for ending, count in self.others.most_common())
            notes.append(f"{self.others.total()} files that are no images by their ending were left out: {kinds}")
        if self.empty:
            notes.append(f"empty folders are no classes: {', '.join(self.empty)}")
        return tuple(notes)


def _split_folders(folders: list[Path]) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    for path in folders:
        if path.name.lower() in _SPLIT_FOLDERS:
            splits.setdefault(_SPLIT_FOLDERS[path.name.lower()], []).append(path)
    return splits
