"""Rows of numbers that need not be computed twice, on disk, found by their content.

    shelf = FeatureCache(folder, max_gb=20).shelf({"prefix": …, "transform": …}, numel=1280, dtype=torch.bfloat16)
    rows = shelf.find(items)             # what is there; rows.missing says what is not
    shelf.add(items_that_were_missing, values)

A key (all that decides the numbers beside the image) has a folder, `<folder>/features/<sha256>/`: `key.json` and
shards. A shard is one file that is written once, atomically, and never changed: header, rows, sha256 of both. Whoever
comes to the same key reads what is there and adds shards of its own, so that any number of processes may fill a key at
once: the worst that happens is work done twice. No lock, no pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tune.run_dir import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_MAGIC = b"tune rows 1\n"
_ALIGNED = 64  # bytes, so that rows of any dtype can be mapped
_DIGEST = 32  # bytes of a sha256
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "uint8": torch.uint8}


@dataclass
class Rows:
    """Rows that lie in several shards, mapped into memory and read when they are asked for.

    Args:
        parts: the shards, each (rows, N).
        part_of: number of the shard for each item (-1: missing).
        row_of: its row there.
    """

    parts: list[Tensor]
    part_of: Tensor
    row_of: Tensor

    @property
    def missing(self) -> list[int]:
        """Positions of the items that are not there."""
        return (self.part_of < 0).nonzero().flatten().tolist()

    def take(self, index: Tensor) -> Tensor:
        """Rows (B, N) of the items at positions `index` (B,), copied."""
        part_of, row_of = self.part_of[index], self.row_of[index]
        if len(self.parts) == 1:
            return self.parts[0][row_of]
        out = self.parts[0].new_empty(len(index), self.parts[0].shape[1])
        for part in part_of.unique().tolist():
            here = part_of == part
            out[here] = self.parts[part][row_of[here]]
        return out


class Shelf:
    """The rows of one key.

    Args:
        folder: of the key; made when the first row is kept.
        numel: numbers in a row, N.
        dtype: of them.
        about: text of key.json.
    """

    def __init__(self, folder: Path, numel: int, dtype: torch.dtype, about: str) -> None:
        self.folder, self.numel, self.dtype, self.about = folder, numel, dtype, about

    def find(self, items: Sequence[str]) -> Rows:
        """The rows of items, by their digests, as far as they are there. A broken shard is removed, with a warning."""
        parts: list[Tensor] = []
        places: dict[str, tuple[int, int]] = {}
        for path in sorted(self.folder.glob("*.rows")):
            shard = self._read(path)
            if shard is None:
                warnings.warn(f"{path} is broken; its rows are computed again", stacklevel=2)
                continue
            names, values = shard
            new = {name: (len(parts), row) for row, name in enumerate(names) if name not in places}
            if new:
                places |= new
                parts.append(values)
        found = [places.get(item, (-1, 0)) for item in items]
        if parts:
            with contextlib.suppress(OSError):  # the cache may be read-only, or another process make room just now
                os.utime(self.folder / "key.json")  # used, for what is removed when space runs out
        pairs = torch.tensor(found, dtype=torch.int64).reshape(-1, 2)
        return Rows(parts, pairs[:, 0], pairs[:, 1])

    def add(self, items: Sequence[str], values: Tensor) -> None:
        """Keep the rows (B, N) of items.

        Raises:
            OSError: if they cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "key.json").exists():
            atomic_write(self.folder / "key.json", self.about)
        header = {"items": list(items), "numel": self.numel, "dtype": str(self.dtype).removeprefix("torch.")}
        text = json.dumps(header).encode()
        start = len(_MAGIC) + 8 + len(text)
        head = _MAGIC + len(text).to_bytes(8, "little") + text + b"\0" * (-start % _ALIGNED)
        body = values.detach().to(self.dtype).cpu().contiguous().view(torch.uint8).numpy().tobytes()
        digest = hashlib.sha256(head)
        digest.update(body)
        atomic_write(self.folder / f"{digest.hexdigest()[:32]}.rows", b"".join((head, body, digest.digest())))

    def verify(self) -> list[Path]:
        """Read every shard; removes the broken ones and says which they were."""
        return [path for path in sorted(self.folder.glob("*.rows")) if self._read(path) is None]

    def _read(self, path: Path) -> tuple[list[str], Tensor] | None:
        """Items and rows (R, N) of a shard; None, and the file removed, if it is not what was written."""
        try:
            content = np.memmap(path, np.uint8, mode="c")  # copy on write: torch warns of what it could not write
        except OSError:  # another process found it broken, or made room
            return [], torch.empty(0, self.numel, dtype=self.dtype)
        except ValueError:  # an empty file cannot be mapped
            content = np.empty(0, np.uint8)
        if (
            len(content) < len(_MAGIC) + 8 + _DIGEST
            or hashlib.sha256(content[:-_DIGEST].data).digest() != content[-_DIGEST:].tobytes()
        ):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        length = int.from_bytes(content[len(_MAGIC) : len(_MAGIC) + 8].tobytes(), "little")
        start = len(_MAGIC) + 8 + length
        header = json.loads(content[len(_MAGIC) + 8 : start].tobytes())
        body = torch.from_numpy(content[start + -start % _ALIGNED : -_DIGEST])
        return header["items"], body.view(_DTYPES[header["dtype"]]).reshape(len(header["items"]), header["numel"])


@dataclass(frozen=True)
class Entry:
    """What is known of one key.

    Args:
        folder: of its shards.
        parts: what the key is made of.
        num_bytes: size of all its files.
        used: when it was last read or written, seconds since 1970.
    """

    folder: Path
    parts: dict[str, Any]
    num_bytes: int
    used: float

    def shelf(self) -> Shelf:
        """Its rows."""
        about = (self.folder / "key.json").read_text()
        return Shelf(self.folder, self.parts["numel"], _DTYPES[self.parts["dtype"]], about)


class FeatureCache:
    """All keys below one folder.

    Args:
        folder: of the cache; made when the first row is kept.
        max_gb: what all keys together may take, 10^9 bytes each.
    """

    def __init__(self, folder: Path, max_gb: float) -> None:
        self.folder, self.max_bytes = Path(folder) / "features", int(max_gb * 1e9)

    def shelf(self, parts: dict[str, Any], numel: int, dtype: torch.dtype) -> Shelf:
        """The rows of a key, empty if it is new."""
        text = json.dumps(
            {**parts, "numel": numel, "dtype": str(dtype).removeprefix("torch.")}, sort_keys=True, indent=1
        )
        return Shelf(self.folder / hashlib.sha256(text.encode()).hexdigest(), numel, dtype, text)

    def entries(self) -> list[Entry]:
        """Every key, the one used last first."""
        found = []
        for path in self.folder.glob("*/key.json"):
            try:
                size = sum(file.stat().st_size for file in path.parent.iterdir())
                found.append(Entry(path.parent, json.loads(path.read_text()), size, path.stat().st_mtime))
            except FileNotFoundError:  # another process removes it
                continue
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def make_room(self, num_bytes: int, keep: Path) -> None:
        """Remove the keys not used for longest until `num_bytes` more fit.

        Args:
            num_bytes: that will be added.
            keep: folder of the key that they are added to.

        Raises:
            OSError: if they never will, here or on the disk.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        entries = self.entries()
        own = sum(entry.num_bytes for entry in entries if entry.folder == keep)
        if own + num_bytes > self.max_bytes:
            raise OSError(f"{(own + num_bytes) / 1e9:.3g} GB are more than cache.max_gb, {self.max_bytes / 1e9:g}")
        total = sum(entry.num_bytes for entry in entries)
        for entry in reversed(entries):
            if total + num_bytes <= self.max_bytes:
                break
            if entry.folder != keep:
                remove(entry)
                total -= entry.num_bytes
        if num_bytes > (free := shutil.disk_usage(self.folder).free):
            raise OSError(f"{num_bytes / 1e9:.3g} GB are needed in {self.folder}, {free / 1e9:.3g} are free")


def remove(entry: Entry) -> None:
    """Remove a key. A process that has its rows mapped keeps them until it ends."""
    shutil.rmtree(entry.folder, ignore_errors=True)


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/tune`, or `~/.cache/tune`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tune"
