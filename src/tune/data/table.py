"""The rows of a data set before any pixel is read: names, labels, and what splits and losses need besides."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tune.data.tasks.task import TaskLabels
from tune.errors import Problem

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Table:
    """N labelled images. With two classes, class 1 is the positive one.

    Args:
        names: unique name of each row (relative path, or "row 17"), shown in predictions.
        labels: (N,) int64, 0 to K-1; -1 in every row of a table without labels.
        classes: K names, in the order of the labels.
        images: files, or uint8 (N, H, W) grey or (N, H, W, 3) colour; a list may hold files and arrays.
        split: (N,) "train", "val", "test", or "" = to be split; None when the data give none.
        group: (N,) rows of equal value stay in one part.
        weights: (N,) float32, importance of each row in the loss.
        columns: (N,) arrays of further facts to stratify or group by, or to learn as tasks.
        domain: (N,) "source" or "target"; None when the rows are of one.
        known: (N,) whether the run may know a row's label; None: every one.
        tasks: what is learned of each row beside its label.
        about: what the labels mean, for the first screen ("defective when p > 0.5").
        notes: what the reader left out, one sentence each.
    """

    names: list[str]
    labels: np.ndarray
    classes: list[str]
    images: Sequence[Path | np.ndarray] | np.ndarray
    split: np.ndarray | None = None
    group: np.ndarray | None = None
    weights: np.ndarray | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    domain: np.ndarray | None = None
    known: np.ndarray | None = None
    tasks: dict[str, TaskLabels] = field(default_factory=dict)
    about: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def is_labelled(self) -> bool:
        """Whether its rows have labels at all."""
        return not len(self) or bool((self.labels >= 0).all())

    @property
    def seen_labels(self) -> np.ndarray:
        """(N,) labels, -1 where the run may not know them."""
        return self.labels if self.known is None else np.where(self.known, self.labels, -1)

    def labelled(self, rows: np.ndarray) -> np.ndarray:
        """Those of some rows whose label the run may know."""
        return rows[self.seen_labels[rows] >= 0]

    def column_names(self) -> list[str]:
        """Names that `column` knows."""
        return ["label", *(["group"] if self.group is not None else []), *self.columns]

    def column(self, name: str) -> np.ndarray:
        """(N,) values to stratify or group by: "label", "group" (if there is one), or a further column."""
        if name == "label":
            return self.labels
        if name == "group" and self.group is not None:
            return self.group
        return self.columns[name]

    def class_counts(self, rows: np.ndarray | None = None) -> np.ndarray:
        """(K,) rows of each class, of the whole table or of some rows; those without a label are not counted."""
        labels = self.labels if rows is None else self.labels[rows]
        return np.bincount(labels[labels >= 0], minlength=self.num_classes)

    def take(self, rows: np.ndarray) -> Table:
        """The same table with these rows only, in this order; classes are kept even when one has no row left."""

        def some(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        images = self.images[rows] if isinstance(self.images, np.ndarray) else [self.images[i] for i in rows]
        return replace(
            self,
            names=[self.names[i] for i in rows],
            labels=self.labels[rows],
            images=images,
            split=some(self.split),
            group=some(self.group),
            weights=some(self.weights),
            domain=some(self.domain),
            known=some(self.known),
            columns={name: values[rows] for name, values in self.columns.items()},
            tasks={name: labels.take(rows) for name, labels in self.tasks.items()},
        )

    def fingerprint(self) -> str:
        """SHA-256 over all that a result depends on.

        Names, labels, classes, splits, groups, weights, further columns, and size and time of change of the files, or
        the bytes of the arrays. Files are not opened.
        """
        digest = hashlib.sha256()
        _add_texts(digest, self.names)
        _add_texts(digest, self.classes)
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int64).tobytes())
        given = {"split": self.split, "group": self.group, "weights": self.weights, "domain": self.domain}
        columns = {**given, **self.columns}
        for name, values in columns.items():
            if values is not None:
                _add_texts(digest, [name, *map(str, values.tolist())])
        if isinstance(self.images, np.ndarray):
            digest.update(str(self.images.shape).encode())
            digest.update(np.ascontiguousarray(self.images).data)
        else:
            files = [_size_and_time(image) for image in self.images if isinstance(image, Path)]
            digest.update(np.array(files, dtype=np.int64).tobytes())
            for image in self.images if len(files) < len(self) else ():
                if not isinstance(image, Path):
                    digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()


def order_classes(wanted: list[str] | None, present: Iterable[str], problems: list[Problem]) -> list[str]:
    """Class names in the order of their ids.

    Args:
        wanted: every name once, in the order to use; None to sort, whole numbers by value ("2" before "10").
        present: names that the rows have.
        problems: gets one more when ``wanted`` is not exactly the names that are present.
    """
    names = set(present)
    if wanted is not None and len(set(wanted)) == len(wanted) and set(wanted) == names:
        return list(wanted)
    if wanted is not None and names:
        missing, unnamed = sorted(set(wanted) - names), sorted(names - set(wanted))
        text = f"must name each of the {len(names)} classes once"
        text += f"; in no row: {', '.join(missing)}" if missing else ""
        text += f"; not named: {', '.join(unnamed)}" if unnamed else ""
        problems.append(Problem("data.classes", text))
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _add_texts(digest: hashlib._Hash, texts: Iterable[str]) -> None:
    # The length in front keeps ["ab"] and ["a", "b"] apart.
    joined = "\x00".join(texts).encode("utf-8", "surrogateescape")
    digest.update(f"{len(joined)}:".encode())
    digest.update(joined)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = os.stat(path)  # noqa: PTH116 -- a third of the time of Path.stat, over 100,000 files
    except OSError:
        return -1, -1  # `unreadable` names the file and the reason
    return stat.st_size, stat.st_mtime_ns
