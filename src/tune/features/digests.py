"""Digests of image files, taken again only when a file may have changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune import __version__
from tune.run_dir import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_SETTLED = 2.0  # seconds; a file changed twice within one tick of the file system's clock looks unchanged


def file_digests(paths: Sequence[Path], folder: Path, *, verify: bool = False) -> list[str]:
    """sha256 of each file's bytes; "" for one that cannot be read.

    What was found is noted in `<folder>/digests/`, with size, time of change (mtime and ctime, ns) and inode; a file in
    which any of them differs is read again, and so is one that was changed less than 2 s before it was read.

    Args:
        paths: the files.
        folder: of the cache.
        verify: read every file again.
    """
    if not paths:
        return []
    top = Path(os.path.commonpath([Path(path).absolute().parent for path in paths]))
    note = Path(folder) / "digests" / f"{hashlib.sha256(str(top).encode()).hexdigest()}.json"
    noted = _read(note)
    known: dict[str, Any] = noted if isinstance(noted, dict) and not verify else {}
    digests, changed = [], False
    for path in paths:
        name = os.path.relpath(path, top)
        try:
            state, entry = _state(path), known.get(name)
            if not isinstance(entry, list) or entry[:-1] != state:
                started = time.time()
                with Path(path).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                entry = [*state, digest]
                if _state(path) == state and max(state[1], state[2]) / 1e9 < started - _SETTLED:
                    known[name], changed = entry, True
            digests.append(str(entry[-1]))
        except OSError:
            digests.append("")
    if changed:
        _write(note, known)
    return digests


def readable(folder: Path) -> set[str]:
    """Digests of files that were decoded to the end, by this version of Pillow and of `tune`."""
    noted = _read(_note_of_readable(folder))
    return set(noted) if isinstance(noted, list) else set()


def note_readable(folder: Path, digests: Iterable[str]) -> None:
    """Remember that files of these digests were decoded to the end."""
    before = readable(folder)
    if not before.issuperset(digests):
        _write(_note_of_readable(folder), sorted(before.union(digests) - {""}))


def array_digests(images: NDArray) -> list[str]:
    """sha256 of each image of an array, with its shape and type."""
    kind = f"{images.shape[1:]} {images.dtype}".encode()
    return [hashlib.sha256(kind + image.tobytes()).hexdigest() for image in images]


def _state(path: Path) -> list[int]:
    stat = Path(path).stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _note_of_readable(folder: Path) -> Path:
    return Path(folder) / "digests" / f"readable, Pillow {version('Pillow')}, tune {__version__}.json"


def _read(note: Path) -> Any:
    """What was noted; None if the note is missing or broken, since it only saves work."""
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


def _write(note: Path, known: Any) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(note, json.dumps(known))
