"""Files to pixels: what ``Image.convert("RGB")`` gets wrong is put right here, and what is broken is said.

A file is read as a viewer would show it: turned as its EXIF tag says, 16 bits brought down to 8, the first frame of an
animation, transparent parts on white. Nothing is repaired and nothing replaced.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from tune.errors import DataError, Problem

# What Pillow may try. Left out are formats that start other programs (EPS runs Ghostscript) or hold no photographs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")

_CHUNK = 64  # files that a thread is given at once
_BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError),
    *(
        RuntimeError,
        MemoryError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ),
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# A small file that unpacks to more than 89 million pixels is an error, as Pillow's documentation advises. The filter is
# for the whole process because filters cannot be changed safely while other threads read.
warnings.simplefilter("error", Image.DecompressionBombWarning)


def read_image(path: Path) -> np.ndarray:
    """Pixels of a file, uint8 (H, W, 3).

    Raises:
        DataError: if the file is not a whole image of a known format; with the reason.
    """
    return np.asarray(open_image(path).convert("RGB"))


def open_image(path: Path) -> Image.Image:
    """The image of a file, fully decoded, of mode "L" (grey) or "RGB".

    - 16-bit grey: divided by 257, so 65535 becomes 255, whatever the values in the file are.
    - 32-bit whole numbers and floats have no fixed white: smallest value to 0, largest to 255, in each file by itself.
    - Transparent pixels are laid on white. Palette and CMYK become RGB, 1 bit becomes 0 and 255.

    Raises:
        DataError: if the file is not a whole image of a known format; with the reason.
    """
    try:
        # Given a name, Pillow 13 maps uncompressed TIFF into memory, and scrambles those that lie on their side.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise Image.DecompressionBombError(f"{image.width} × {image.height} pixels")
            image.load()
            plain = _plain(image)
            turn = _TURNS.get(_orientation(image))
            return plain if turn is None else plain.transpose(turn)
    except _BROKEN as error:
        raise DataError(Problem(str(path), _reason(path, error))) from error


def unreadable(paths: Sequence[Path], workers: int | None = None) -> list[tuple[int, str]]:
    """Decode every file to the end; (index, reason) of those that cannot be, in order.

    Args:
        paths: files.
        workers: threads; as many as the processor has cores when None.
    """

    def reason(path: Path) -> str | None:
        try:
            open_image(path)
        except DataError as error:
            return error.problems[0].text
        return None

    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(max(1, workers or os.cpu_count() or 1)) as threads:
        reasons = [
            text for chunk in threads.map(lambda some: [reason(path) for path in some], chunks) for text in chunk
        ]
    return [(i, text) for i, text in enumerate(reasons) if text is not None]


def _plain(image: Image.Image) -> Image.Image:
    """Mode "L" or "RGB", not yet turned."""
    has_clear_colour = "transparency" in image.info
    if image.mode.startswith("I;16"):
        return _from_16_bit(np.asarray(image), image.info.get("transparency"))
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # their numbers have 16 bits at most
        return _from_16_bit(np.asarray(image), None)
    if image.mode in ("I", "F"):
        return _stretched(np.asarray(image, dtype=np.float64))
    if has_clear_colour or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def _from_16_bit(values: np.ndarray, clear: int | None) -> Image.Image:
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if clear is not None:
        grey[values == clear] = 255
    return Image.fromarray(grey)


def _stretched(values: np.ndarray) -> Image.Image:
    if not np.isfinite(values).all():
        raise ValueError("holds NaN or infinite values")
    low, high = values.min(), values.max()
    return Image.fromarray(np.rint((values - low) * (255 / max(high - low, 1e-300))).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:
        return 1  # the tag cannot be read: shown as it lies, as viewers do


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be an attack; make it smaller ({error})"
    if isinstance(error, Image.UnidentifiedImageError):
        try:
            empty = path.stat().st_size == 0
        except OSError:
            empty = False
        return "is empty (0 bytes)" if empty else f"is no image of a known format ({', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return f"cannot be decoded: {error or type(error).__name__}"
