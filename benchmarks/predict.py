"""Images/s of `tune predict` on 1,000 JPEGs beside a bare loop: a DataLoader of PIL and timm's transform, timm's model.

Both decode, resize and answer with the same network, in the same precision, on the same threads; neither's imports
count. `python -m benchmarks.predict ours|bare RUN FOLDER` is one of them in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Line, process, tune

IMAGES, BATCH, WORKERS, TIMES = 1000, 32, 2, 3


def predict() -> Iterator[Line]:
    """A run with a frozen backbone (bf16 where the processor has it), and one that trained everything (fp32)."""
    with tempfile.TemporaryDirectory() as folder:
        cache, images = Path(folder) / "cache", Path(folder) / "images"
        make_images(images, IMAGES)
        for freeze in ("deep", "full"):
            output = Path(folder) / freeze
            words = ["data=synthetic", "data.rows=60", f"freeze={freeze}", "epochs=1", "precision=auto"]
            run_dir = json.loads(process(tune(*words, output=output), cache).out.splitlines()[-1])["run_dir"]
            rates: dict[str, list[float]] = {"ours": [], "bare": []}
            for _ in range(TIMES):  # in turn, so that other work on the machine falls on both
                for name, found in rates.items():
                    command = [sys.executable, "-m", "benchmarks.predict", name, run_dir, str(images)]
                    found.append(float(process(command, cache).out))
            ours, bare = (statistics.median(rates[name]) for name in ("ours", "bare"))
            yield Line(f"predict, {freeze}", ours, bare, "bare loop", ours / bare, "≥ 0.8", unit="images/s")


def make_images(folder: Path, number: int) -> None:
    """Coloured clouds of 500 × 375 pixels with some grain, as JPEG."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(number):
        coarse = Image.fromarray(draw.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        clouds = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = draw.integers(-12, 12, clouds.shape, dtype=np.int16)
        Image.fromarray((clouds + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{i:04}.jpg", quality=90)


def ours(run: str, paths: list[Path]) -> float:
    """What the verb does between the first file and the last row, images/s."""
    import tune
    from tune.train.finished.form import Form

    form = Form(tune.load(run))
    list(form.over(paths[:BATCH], batch_size=BATCH, workers=WORKERS, bad=[]))
    started = time.monotonic()
    rows = sum(len(each.rows) for each in form.over(paths, batch_size=BATCH, workers=WORKERS, bad=[]))
    return rows / (time.monotonic() - started)


def bare(run: str, paths: list[Path]) -> float:
    """The loop that anybody would write, with the channels last and in the precision of the run, images/s."""
    import timm
    import torch
    import yaml
    from timm.data import create_transform  # pyright: ignore[reportPrivateImportUsage]
    from torch.utils.data import DataLoader, Dataset

    from tune.train.devices.precision import choose_precision

    described = yaml.safe_load((Path(run) / "model.yaml").read_text())
    spec = described["input"]
    transform = create_transform(
        (3, *spec["size"]), mean=spec["mean"], std=spec["std"], interpolation=spec["interpolation"], crop_pct=1.0
    )

    class Files(Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, row: int) -> torch.Tensor:
            return transform(Image.open(paths[row]).convert("RGB"))  # type: ignore[operator]

    model = timm.create_model(described["backbone"]["name"], num_classes=len(described["classes"])).eval()
    model.to(memory_format=torch.channels_last)
    is_frozen = "/deep/" in run
    dtype = choose_precision("auto", "cpu").frozen if is_frozen else None
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):

        def over(some: Dataset) -> int:
            rows = 0
            for images in DataLoader(some, BATCH, num_workers=WORKERS):
                rows += len(model(images.contiguous(memory_format=torch.channels_last)).softmax(dim=1))
            return rows

        over(torch.utils.data.Subset(Files(), range(BATCH)))
        started = time.monotonic()
        return over(Files()) / (time.monotonic() - started)


if __name__ == "__main__":
    which, run, folder = sys.argv[1:]
    sys.stdout.write(f"{(ours if which == 'ours' else bare)(run, sorted(Path(folder).iterdir())):.2f}\n")
