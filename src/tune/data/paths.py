"""Files and folders that a user names: found, or an error that says where they were looked for."""

from __future__ import annotations

import difflib
from pathlib import Path

from tune.errors import DataError, Problem

# By ending, in lower case. A file of another kind under such a name is found out when it is decoded.
IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff"),
    *(".webp", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)


def existing(key: str, path: str | None, kind: str) -> Path:
    """The path, absolute, with ``~`` expanded.

    Args:
        key: dotted key that named it, for the message.
        path: what the user gave; None when nothing.
        kind: "folder" or "file".

    Raises:
        DataError: if nothing was given, nothing is there, or something of the other kind is.
    """
    if path is None:
        raise DataError(f"{key}: say which {kind}: {key}={'FILE' if kind == 'file' else 'DIR'}")
    full = Path(path).expanduser().absolute()
    if not full.exists():
        raise DataError(Problem(key, f"there is no {kind} {full}{_nearest(full)}"))
    if full.is_dir() != (kind == "folder"):
        raise DataError(Problem(key, f"{full} is a {'folder' if full.is_dir() else 'file'}, not a {kind}"))
    return full


def _nearest(missing: Path) -> str:
    """End of the sentence: how far the path exists, and what there is of a similar name."""
    parent = missing.parent
    while not parent.is_dir():
        missing, parent = parent, parent.parent
    try:
        there = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    except OSError:
        return f" ({parent} cannot be read)"
    by_lower = {name.lower(): name for name in there}
    near = difflib.get_close_matches(missing.name.lower(), by_lower, n=1)
    if near:
        return f". Did you mean {parent / by_lower[near[0]]}?"
    shown = ", ".join(there[:8]) + (", …" if len(there) > 8 else "")
    return f"; {parent} holds {shown}" if there else f"; {parent} is empty"
