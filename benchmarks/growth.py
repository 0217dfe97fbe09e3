"""Many images and large networks: what grows, and how."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Line, process, tune


def growth() -> Iterator[Line]:
    """From 2,500 to 40,000 images of 64 px: time per image and peak memory; and a folder of 100,000 files."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["freeze=deep", "backbone.input_size=64", "epochs=3", "lr=1e-3"]
        seconds, peaks = {}, {}
        for number in (200, 2500, 40000):
            root = Path(folder) / str(number)
            _draw(root, number, (64, 64), "png")
            command = tune(f"data.root={root}", *words, output=Path(folder) / "outputs")
            times = 1 if number > 2500 else 3
            runs = [process(command, Path(folder) / f"cache {number} {time}") for time in range(times)]
            seconds[number] = statistics.median(run.seconds for run in runs)
            peaks[number] = max(run.peak for run in runs)
        small, large = ((seconds[n] - seconds[200]) / (n - 200) * 1e3 for n in (2500, 40000))
        yield Line("40,000 images of 64 px, each", large, small, "2,500 images", large / small, "0.85-1.15", unit="ms")
        extra = peaks[40000] - peaks[2500]
        yield Line("the same, peak memory", peaks[40000], peaks[2500], "2,500 images", extra, "≤ + 300", unit="MB")
        root = Path(folder) / "many"
        _draw(root, 100_000, (1, 1), "png", same=True)
        code = (
            "import time, sys; t = time.monotonic(); from tune.train.rows import read_rows;"
            f"read_rows({{'_target_': 'tune.data.readers.folder.Folder', 'root': {str(root)!r}}});"
            "sys.stdout.write(str(time.monotonic() - t))"
        )
        opened = float(process([sys.executable, "-c", code], Path(folder) / "cache").out)
        yield Line("reading the labels of 100,000 files", opened, 10, "asked", opened / 10, "≤ 1")


def inception() -> Iterator[Line]:
    """TensorFlow's retraining tutorial: 4,000 steps of 100 rows on the features of Inception-v3, on a CPU.

    Its documents said "about 30 minutes" for the features of 3,670 photographs of flowers, and others 4 to 4.5
    minutes for 591 images. Photographs are drawn here, and weights are random: only the time is compared.
    """
    for number, theirs in ((3670, 30 * 60), (591, 4.25 * 60)):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "images"
            _draw(root, number, (320, 240), "jpg")
            steps = -(-int(number * 0.8) // 100)
            words = ["freeze=deep", "backbone=inception_v3", "backbone.weights=none", "batch_size=100"]
            words += ["optimizer=sgd", "lr=1e-2", "data.split.val=0.1", "data.split.test=0.1"]
            started = time.monotonic()
            command = tune(f"data.root={root}", *words, f"epochs={4000 // steps}", output=Path(folder) / "outputs")
            process(command, Path(folder) / "cache")
            ours = time.monotonic() - started
            yield Line(
                f"Inception-v3, {number:,} images, 4,000 steps", ours, theirs, "as reported in 2016", theirs / ours, ""
            )


def _draw(root: Path, number: int, size: tuple[int, int], ending: str, same: bool = False) -> None:
    """Images in two folders, of two kinds."""
    draw = np.random.default_rng(0)
    content = b""
    for kind in (0, 1):
        (root / str(kind)).mkdir(parents=True)
    for row in range(number):
        path = root / str(row % 2) / f"{row}.{ending}"
        if not content or not same:
            pixels = draw.normal(100 + 50 * (row % 2), 40, (size[1], size[0], 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path)
            content = path.read_bytes()
        else:
            path.write_bytes(content)
