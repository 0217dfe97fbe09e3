"""Sweeps of heads on one frozen network, beside the scripts that people write today."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import PEERS, Line, cells_folder, peer_accuracy, process, reached, require_peers, timed, tune

TWELVE = ("-m", "+experiment=quickstart", "lr=1e-4,3e-4,1e-3,3e-3,1e-2,3e-2", "batch_size=32,128")
SEVENTY_TWO = (
    "-m",
    "+experiment=quickstart",
    "lr=1e-4,3e-4,1e-3,3e-3",
    "regularize=none,dropout,elastic",
    "batch_size=32,128",
    "seed=0,1,2",
)


def sweep() -> Iterator[Line]:
    """12 and 72 trials from an empty cache, against 12 Lightning runs and 12 scikit-learn fits."""
    require_peers()
    with tempfile.TemporaryDirectory() as folder:
        root = cells_folder(Path(folder) / "elpv")
        seconds = []
        for number in range(3):
            cache = Path(folder) / f"cache{number}"
            twelve, out = timed(tune(*TWELVE, output=Path(folder) / f"outputs{number}"), cache)
            seconds.append(twelve)
        ours = sorted(seconds)[1]
        found = reached(out, 0.82)
        naive = process([sys.executable, str(PEERS / "lightning_naive.py"), str(root), "10", "1"], cache)
        what = f"12 × one Lightning trial, accuracy {peer_accuracy(naive.out)}"
        theirs = 12 * naive.seconds
        yield Line("sweep of 12 heads, empty cache", ours, theirs, what, theirs / ours, "≥ 100", found)
        fits = process([sys.executable, str(PEERS / "sklearn_features.py"), str(root), "12"], cache)
        what = f"features once, scikit-learn, accuracy {peer_accuracy(fits.out)}"
        yield Line("the same", ours, fits.seconds, what, fits.seconds / ours, "≥ 2.5", found)
        many, out = timed(tune(*SEVENTY_TWO, output=Path(folder) / "outputs"), Path(folder) / "cache")
        yield Line("sweep of 72 heads, empty cache", many, ours, "12 heads", many / ours, "≤ 1.5", reached(out, 0.82))


def heads() -> Iterator[Line]:
    """The training of 64 and 512 heads as one, against that of one, without preparation and files."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        process(tune("+experiment=quickstart", output=Path(folder) / "outputs"), cache)
        command = [sys.executable, "-m", "benchmarks.fused_training"]
        runs = {}
        for number in (1, 64, 512):
            runs[number] = sorted(float(process([*command, str(number)], cache).out) for _ in range(3))[1]
        for number, asked in ((64, "≤ 1.5"), (512, "")):
            ratio = runs[number] / runs[1]
            yield Line(f"training of {number} heads, 10 epochs", runs[number], runs[1], "one head", ratio, asked)
        big = process([*command, "512", "10000"], cache)
        yield Line("512 heads on 10,000 rows: peak memory", big.peak, 2048, "asked", big.peak / 2048, "≤ 1", unit="MB")
