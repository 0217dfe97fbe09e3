from __future__ import annotations

import zipfile
from pathlib import Path
from typing import final

import numpy as np

from tune.data.paths import existing
from tune.data.readers.interface import Reader
from tune.data.table import SPLITS, Table, order_classes
from tune.errors import DataError, Problem

_REQUIRED = ("images", "labels")
_OPTIONAL = ("names", "split", "group", "weight")


@final
class Arrays(Reader):
    """Images held in memory, from a file that ``numpy.savez`` or ``numpy.savez_compressed`` wrote.

    The file holds ``images``, uint8 (N, H, W) grey or (N, H, W, 3) colour, and ``labels``, (N,) whole numbers or texts.
    Optional are ``names`` (texts, each once), ``split`` (train, val, test or "" = to be split), ``group`` and
    ``weight`` (>= 0), each (N,). Further (N,) arrays can be used by ``split.stratify`` and ``split.group``. Pickled
    objects are not loaded.

    Args:
        file: the .npz file; relative to where the command runs.
        classes: all class names in the order of their ids (with two, the second is the positive class); the labels,
            sorted, when null.

    Raises:
        DataError: with everything that is wrong with the arrays.
    """

    def __init__(self, file: str | None = None, classes: list[str] | None = None):
        self.file = file
        self.classes = classes

    def read(self) -> Table:
        """Rows in the order of the arrays."""
        file = existing("data.file", self.file, "file")
        arrays = _load(file)
        problems = _problems(arrays)
        labels = [str(label) for label in np.atleast_1d(arrays["labels"]).tolist()] if "labels" in arrays else []
        classes = order_classes(self.classes, labels, problems)
        if problems:
            raise DataError(*(Problem(problem.key, problem.text, str(file)) for problem in problems))
        ids = {name: i for i, name in enumerate(classes)}
        images = arrays["images"]
        has_split = "split" in arrays and bool((arrays["split"] != "").any())
        return Table(
            names=arrays["names"].tolist() if "names" in arrays else [f"row {i}" for i in range(len(labels))],
            labels=np.array([ids[label] for label in labels], dtype=np.int64),
            classes=classes,
            images=images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images,
            split=arrays["split"] if has_split else None,
            group=arrays.get("group"),
            weights=arrays["weight"].astype(np.float32) if "weight" in arrays else None,
            columns={name: values for name, values in arrays.items() if name not in _REQUIRED + _OPTIONAL},
        )


def _load(file: Path) -> dict[str, np.ndarray]:
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise ValueError("it is a single array (.npy)")
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        text = "pickled objects are not loaded" if "allow_pickle" in str(error) else str(error)
        raise DataError(Problem("data.file", f"is no .npz file of plain arrays: {text}", str(file))) from error


def _problems(arrays: dict[str, np.ndarray]) -> list[Problem]:
    missing = [name for name in _REQUIRED if name not in arrays]
    if missing:
        there = ", ".join(arrays) or "nothing"
        return [Problem("data.file", f"has no array {' and none called '.join(missing)}. It has: {there}")]
    texts = []
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8:
        texts.append(f"images must be uint8 (0-255), not {images.dtype}")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        hint = "; move the channels to the end" if images.ndim == 4 and images.shape[1] in (1, 3) else ""
        texts.append(f"images must have shape (N, H, W) or (N, H, W, 3), not {images.shape}{hint}")
    if 0 in images.shape:
        texts.append(f"images hold no pixel: shape {images.shape}")
    if labels.dtype.kind not in "iuU":
        texts.append(f"labels must be whole numbers or texts, not {labels.dtype}")
    for name, values in arrays.items():
        if name != "images" and values.shape != images.shape[:1]:
            texts.append(f"{name} must have shape {images.shape[:1]}, as many as images, not {values.shape}")
    return [Problem("data.file", text) for text in texts + _optional_texts(arrays)]


def _optional_texts(arrays: dict[str, np.ndarray]) -> list[str]:
    texts = []
    if "names" in arrays:
        names = arrays["names"]
        if names.dtype.kind != "U":
            texts.append(f"names must be texts, not {names.dtype}")
        elif len(np.unique(names)) < names.size:
            texts.append("names must be different from each other")
    if "split" in arrays:
        unknown = sorted({str(part) for part in np.unique(arrays["split"])} - {"", *SPLITS})
        if unknown:
            texts.append(f"split must be train, val, test or nothing, not {', '.join(unknown[:5])}")
    if "weight" in arrays:
        weights = arrays["weight"]
        if weights.dtype.kind not in "iuf" or not np.isfinite(weights).all() or (weights < 0).any():
            texts.append("weight must be finite numbers >= 0")
    return texts
