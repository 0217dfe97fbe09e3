"""Whether rows that a run is measured on are among those that it learned from. Torch-free.

Rows are the same where their bytes are: of files the size is looked at first, and only files of equal size are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tune.config.across.domains import closes_source
from tune.errors import DataError, Problem, TuneError
from tune.run_dir import read_json, run_id
from tune.train.finished.differences import rows_again

_ROLES = {"train": "training rows", "val": "validation rows, which chose its epoch"}


@dataclass(frozen=True)
class Overlap:
    """Rows that are known already.

    Args:
        rows: how many were measured.
        known: names of those that are in "train" and of the others that are in "val"; None if that cannot be told.
        why: it cannot be told.
    """

    rows: int
    known: dict[str, list[str]] | None
    why: str = ""

    @property
    def counts(self) -> dict[str, int] | None:
        """How many, by part."""
        return None if self.known is None else {part: len(names) for part, names in self.known.items()}

    def lines(self) -> list[str]:
        """A note for each part that has some of them."""
        if self.known is None:
            return [f"note      not looked for: whether rows are among those that the run learned from; {self.why}"]
        return [
            f"note      {len(names)} of {self.rows} rows {'is' if len(names) == 1 else 'are'} among the run's "
            f"{_ROLES[part]} (first: {names[0]}): their numbers look better than they are"
            for part, names in self.known.items()
            if names
        ]


def overlap(names: Sequence[str], images: Sequence[Any], configs: dict[Path, dict[str, Any]]) -> Overlap:
    """Which of N rows a run, or a member of an ensemble, was trained on or chose its epoch by.

    What a run learned from in an earlier stage, or through the weights of another run, is not looked at.

    Args:
        names: of the rows.
        images: files or arrays.
        configs: of the run, or of the members, by folder.
    """
    try:
        found = _same(images, _learned_from(configs))
    except TuneError as error:
        return Overlap(len(names), None, str(error))
    except OSError as error:
        return Overlap(len(names), None, f"{error.filename}: {error.strerror}")
    found["val"] &= ~found["train"]
    return Overlap(
        len(names), {part: [names[i] for i in np.flatnonzero(seen).tolist()] for part, seen in found.items()}
    )


def _learned_from(configs: dict[Path, dict[str, Any]]) -> dict[str, list[Any]]:
    """Images by part.

    Raises:
        DataError: if the data or their split are not what they were.
    """
    found: dict[str, list[Any]] = {"train": [], "val": []}
    splits = set()
    for run_dir, config in configs.items():
        record = read_json(run_dir / "run.json")
        if (before := record["data"])["split"] in splits:
            continue  # members have one table
        splits.add(before["split"])
        table, parts = rows_again(record, config)
        is_other = table.fingerprint() != before["fingerprint"] and not closes_source(
            config
        )  # its classes are another's
        if is_other or parts.fingerprint != before["split"]:
            raise DataError(Problem(run_id(run_dir), "the data, or their split, changed since this run"))
        for part, images in found.items():
            images += [table.images[row] for row in parts.rows(part)]
    return found


def _same(images: Sequence[Any], others: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    """(N,) whether an image is one of others, of each part of these."""
    sizes = {part: [_size(image) for image in some] for part, some in others.items()}
    own = [_size(image) for image in images]
    alike = set(own) & {size for some in sizes.values() for size in some}
    digests = [_digest(image) if size in alike else None for image, size in zip(images, own, strict=True)]
    found = {}
    for part, some in others.items():
        known = {_digest(image) for image, size in zip(some, sizes[part], strict=True) if size in alike}
        found[part] = np.array([digest in known for digest in digests], dtype=bool)
    return found


def _size(image: Any) -> int | tuple[int, ...]:
    """Bytes of a file, or the shape of an array."""
    return image.stat().st_size if isinstance(image, Path) else image.shape


def _digest(image: Any) -> bytes:
    content = image.read_bytes() if isinstance(image, Path) else np.ascontiguousarray(image).data
    return hashlib.sha256(content).digest()
