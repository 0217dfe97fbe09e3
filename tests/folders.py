"""Folders of results, written by hand as runs and sweeps write them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tune.data.table import Table

DONE = {"status": "done", "cause": "", "exit_code": 0, "seconds": 12.0}


def make_run(run_dir: Path, *, at: float = 1e9, config: str = "epochs: 10\nlr: 0.1\n", **record: Any) -> Path:
    """A run folder with run.json and config.yaml.

    Args:
        run_dir: the folder.
        at: when run.json was written.
        config: text of config.yaml.
        record: what run.json says, beside what every finished run says.
    """
    run_dir.mkdir(parents=True)
    value = {**DONE, "name": run_dir.parent.name, "objective": "val/accuracy", "overrides": [], "metrics": {}}
    (run_dir / "run.json").write_text(json.dumps({**value, **record}))
    (run_dir / "config.yaml").write_text(config)
    os.utime(run_dir / "run.json", (at, at))
    return run_dir


def make_sweep(folder: Path, grid: Sequence[tuple[str, list[str]]], *, at: float = 1e9, **about: Any) -> Path:
    """The folder of a sweep with sweep.json.

    Args:
        folder: `sweep-…`.
        grid: key and overrides of each trial.
        at: when it was written.
        about: what sweep.json says besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trials = [{"overrides": words, "ledger_key": key} for key, words in grid]
    head = {"command": ["lr=1,2"], "name": folder.parent.name, "objective": "val/accuracy", "maximize": True}
    (folder / "sweep.json").write_text(json.dumps({**head, "trials": trials, **about}))
    os.utime(folder / "sweep.json", (at, at))
    return folder


def write_predictions(run_dir: Path, classes: Sequence[str], rows: Sequence[tuple], part: str = "test") -> None:
    """`predictions/<part>.csv` from rows of path, label, predicted and probabilities."""
    path = run_dir / "predictions" / f"{part}.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["row", "path", "label", "predicted", *(f"p_{name}" for name in classes)])
        for number, (name, label, predicted, probs) in enumerate(rows):
            write([number, name, label, predicted, *(f"{p:.6f}" for p in probs)])


def write_photos(table: Table, size: tuple[int, int] | None = None) -> list[str]:
    """Images of a table as `photos/CLASS/NUMBER.png`, of another size if asked for; their paths."""
    paths = []
    for i, (pixels, label) in enumerate(zip(table.images, table.labels, strict=True)):
        path, image = Path("photos") / table.classes[label] / f"{i:02}.png", Image.fromarray(pixels)
        path.parent.mkdir(parents=True, exist_ok=True)
        (image.resize(size) if size else image).save(path)
        paths.append(str(path))
    return paths


def facts(split: str = "s1", fingerprint: str = "f1", classes: Sequence[str] = ("cat", "dog"), test: int = 4) -> dict:
    """What run.json says of the data."""
    counts = {"train": 10, "val": 4, "test": test}
    return {"data": {"fingerprint": fingerprint, "split": split}, "counts": counts, "classes": list(classes)}
