"""How well `lr=auto` does: the accuracy it reaches beside that of each of nine rates, on three experiments.

Not a matter of time: `tune` alone. A line per experiment, means over its seeds; "short of" is in points of validation
accuracy, by which a rate would be chosen. `python -m benchmarks.lr_find [FOLDER]` (what FOLDER holds is not run again)
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import process, tune

GRID = ["1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2", "1e-1"]
EXPERIMENTS = {
    "quickstart (a head, features kept)": (["+experiment=quickstart"], 3),
    "digits, lenet from random weights": (["data=digits", "backbone=lenet", "freeze=full", "epochs=10"], 3),
    "elpv/mid at 64 px, 4 epochs, plain": (
        ["+experiment=elpv/mid", "backbone.input_size=64", "augment=none", "epochs=4"],
        1,
    ),
}
"""What is trained, and from how many seeds."""


def lr_find(folder: Path) -> Iterator[str]:
    """A line per experiment."""
    for what, (words, seeds) in EXPERIMENTS.items():
        words = [*words, *([f"seed={','.join(map(str, range(seeds)))}"] if seeds > 1 else [])]
        grid = _trials(folder, *words, f"lr={','.join(GRID)}")
        means = {rate: _mean([trial for trial in grid if f"lr={rate}" in _rates(trial)]) for rate in GRID}
        best = max(means, key=means.__getitem__)
        auto = _trials(folder, *words, "lr=auto,1e-2")
        auto = [trial for trial in auto if "lr=auto" in trial["overrides"]]
        found = [json.loads((Path(trial["run_dir"]) / "run.json").read_text())["auto"]["lr"]["lr"] for trial in auto]
        ours = _mean(auto)
        short = 100 * (means[best] - ours)
        rates = ", ".join(f"{rate:g}" for rate in found)
        yield f"| {what} | {rates} | {ours:.4f} | {means[best]:.4f} at {best} | {short:+.2f} | {_row(means)} |"


def _trials(folder: Path, *words: str) -> list[dict]:
    out = process(tune("-m", *words, output=folder / "outputs"), folder / "cache").out
    return json.loads(out.splitlines()[-1])["trials"]


def _rates(trial: dict) -> set[str]:
    """The overrides of a trial, with its rate as the grid has it."""
    typed = {float(word.removeprefix("lr=")) for word in trial["overrides"] if word.startswith("lr=")}
    return {f"lr={rate}" for rate in GRID if float(rate) in typed}


def _mean(trials: list[dict]) -> float:
    return statistics.fmean(trial["metrics"]["val/accuracy"] for trial in trials)


def _row(means: dict[str, float]) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in means.values())


HEADER = "| experiment | lr=auto | reached | best of nine | short of, points | 1e-5 … 1e-1 |\n|---|---|---|---|---|---|"


if __name__ == "__main__":
    print(HEADER, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for line in lr_find(Path(sys.argv[1] if len(sys.argv) > 1 else temporary)):
            print(line, flush=True)
