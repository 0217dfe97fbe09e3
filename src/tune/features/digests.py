"""Digests of image files, taken again only when a file may have changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tune.run_dir import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SETTLED = 2.0  # seconds; a file changed twice within one tick of the file system's clock looks unchanged


def file_digests(paths: Sequence[Path], folder: Path, *, verify: bool = False) -> list[str]:
    """sha256 of each file's bytes.

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
    known = {} if verify else _read(note)
    digests, changed = [], False
    for path in paths:
        name, state = os.path.relpath(path, top), _state(path)
        entry = known.get(name)
        if not isinstance(entry, list) or entry[:-1] != state:
            started = time.time()
            with Path(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            entry = [*state, digest]
            if _state(path) == state and max(state[1], state[2]) / 1e9 < started - _SETTLED:
                known[name], changed = entry, True
        digests.append(str(entry[-1]))
    if changed:
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, json.dumps(known))
    return digests


def array_digests(images: NDArray) -> list[str]:
    """sha256 of each image of an array, with its shape and type."""
    kind = f"{images.shape[1:]} {images.dtype}".encode()
    return [hashlib.sha256(kind + image.tobytes()).hexdigest() for image in images]


def _state(path: Path) -> list[int]:
    stat = Path(path).stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(note: Path) -> dict[str, list]:
    """What was noted; nothing if the note is missing or broken, since it only saves work."""
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
