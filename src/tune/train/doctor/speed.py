"""Checks of how fast images come, and the picture of a batch."""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw

from tune.train.doctor.case import ROWS
from tune.train.doctor.finding import Finding, judged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from tune.data.transforms import InputTransform
    from tune.train.doctor.case import Case

_TILE = 128  # pixels of an image in the picture


def check_loader(case: Case) -> Iterator[Finding]:
    """Time to read an image against the time the network takes for it, on average over the epochs of the run.

    The first pass decodes the file; later ones find it resized in memory, as far as there is room.
    """
    run, data = case.run, case.run.data
    rows = case.train_rows(ROWS).tolist()
    view = "0" if data.changes_pixels else ""
    first = _seconds(lambda row: data.transform(data.table.images[row]), rows)
    later = _seconds(lambda row: data.load(view, row), rows)  # the checks before have read these already
    epochs, workers = run.config["epochs"], data.workers
    assert case.watched is not None
    if run.frozen.is_kept and run.frozen.encoder is not None:
        images = torch.stack([data.load("", row) for row in rows])
        started = time.monotonic()
        run.frozen.encoder(images)
        model, reading, what = (time.monotonic() - started) / len(rows), first, "the frozen part, once"
    else:
        seen = case.watched
        each = [seconds / rows for seconds, rows in zip(seen.seconds, seen.rows, strict=True)]
        model, what = statistics.median(each), "a step"
        reading = (first + (epochs - 1) * later) / epochs / max(1, workers)
    text = f"{1 / max(reading, 1e-9):,.0f} images/s are read, {1 / max(model, 1e-9):,.0f} does {what}"
    do = f"data.workers={max(1, math.ceil(first / max(model, 1e-9)))}, or smaller image files"
    yield judged("loader", reading <= model, text, do, otherwise="WARN")


def _seconds(load: Callable[[int], object], rows: list[int]) -> float:
    """That a row takes."""
    started = time.monotonic()
    for row in rows:
        load(row)
    return (time.monotonic() - started) / len(rows)


def check_picture(case: Case) -> Iterator[Finding]:
    """A batch as the network sees it, normalisation undone, with labels; where `--picture` names a file."""
    if not case.picture:
        yield Finding("picture", "SKIP", "--picture batch.png draws a batch as the network sees it")
        return
    from pathlib import Path

    names = [case.rows.classes[int(label)] for label in case.batch.labels]
    draw_batch(case.batch.images, names, case.run.data.transform, Path(case.picture))
    yield Finding("picture", "PASS", f"{len(names)} images in {case.picture}")


def draw_batch(images: Tensor, names: list[str], transform: InputTransform, path: Path) -> None:
    """Write a grid of images with their labels.

    Args:
        images: (B, 3, H, W), normalised.
        names: B labels.
        transform: that normalised them.
        path: of the file.
    """
    columns = math.ceil(math.sqrt(len(names)))
    lines = math.ceil(len(names) / columns)
    grid = Image.new("RGB", (columns * _TILE, lines * (_TILE + 14)), "white")
    pen = ImageDraw.Draw(grid)
    for number, (image, name) in enumerate(zip(transform.undone(images), names, strict=True)):
        left, top = number % columns * _TILE, number // columns * (_TILE + 14)
        tile = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).resize((_TILE, _TILE))
        grid.paste(tile, (left, top + 14))
        pen.text((left + 2, top + 1), name.encode("latin-1", "replace").decode("latin-1")[:20], fill="black")
    grid.save(path)
