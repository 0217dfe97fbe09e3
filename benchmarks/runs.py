"""`python -m benchmarks.runs`: how long it takes to look at 1,000 run folders.

One run is trained, and its folder copied: 1,000 runs of their own, 1,000 trials of a sweep, and half of each. Each
command is a process of its own, imports included; the line has the median of five, and the range.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import process, tune

RUNS, TIMES = 1000, 5
HEADER = "| command | 1,000 runs | 1,000 trials of a sweep | 500 of each |\n|---|---|---|---|"
WORK = {
    "tune ls runs": ["ls", "runs"],
    "tune ls runs --json": ["ls", "runs", "--json"],
    "tune status": ["status"],
    "tune top SWEEP": ["top", "5aee4b1e"],
    "tune top NAME": ["top", "run"],
}


def main(names: list[str]) -> None:
    """Print a line per command, or for those named alone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        words = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "epochs=5"]
        out = process(tune(*words, output=root / "one"), root / "cache").out
        run_dir = Path(json.loads(out.splitlines()[-1])["run_dir"])
        outputs = [root / "runs", root / "trials", root / "both"]
        for output, runs, trials in zip(outputs, (RUNS, 0, RUNS // 2), (0, RUNS, RUNS // 2), strict=True):
            make_runs(run_dir, output, runs)
            make_sweep(run_dir, output, trials)
        print(HEADER, flush=True)
        for name, verb in WORK.items():
            if not names or verb[0] in names:
                cells = [_seconds(verb, output, root) if _is_there(verb, output) else "–" for output in outputs]
                print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def make_runs(run_dir: Path, output: Path, number: int) -> None:
    """Copies of a run folder, each with a rate and a result of its own.

    Args:
        run_dir: the one to copy.
        output: where the copies go.
        number: of copies.
    """
    for place in range(number):
        words = [f"lr={1e-5 * (place + 1):.6g}"]
        _copy(run_dir, output / "run" / f"2026-11-21T08-33-05-{place:06x}", words, place, {})


def make_sweep(run_dir: Path, output: Path, number: int) -> None:
    """A sweep whose trials are copies of a run folder, three seeds of each rate."""
    folder, grid = output / "run" / "sweep-5aee4b1e", []
    for place in range(number):
        words = [f"lr={1e-5 * (place // 3 + 1):.6g}", f"seed={place % 3}"]
        record = {"ledger_key": f"{place:064x}", "sweep": folder.name, "number": place + 1}
        _copy(run_dir, folder / str(place + 1), words, place, record)
        grid.append(
            {"overrides": json.loads((folder / str(place + 1) / "run.json").read_text())["overrides"], **record}
        )
    if number:
        about = {"command": ["lr=range(0,1000)"], "name": "run", "objective": "val/accuracy", "maximize": True}
        (folder / "sweep.json").write_text(json.dumps({**about, "trials": grid}, indent=2))


def _copy(run_dir: Path, to: Path, words: list[str], place: int, more: dict) -> None:
    shutil.copytree(run_dir, to, ignore=shutil.ignore_patterns("*.ckpt", "*.safetensors"))
    record = json.loads((run_dir / "run.json").read_text())
    record["overrides"] = [*record["overrides"], *words]
    record["metrics"]["val/accuracy"] = place * 7919 % RUNS / RUNS
    (to / "run.json").write_text(json.dumps({**record, **more}, indent=2))


def _is_there(verb: list[str], output: Path) -> bool:
    return verb != WORK["tune top SWEEP"] or (output / "run" / "sweep-5aee4b1e").is_dir()


def _seconds(verb: list[str], output: Path, root: Path) -> str:
    command = [sys.executable, "-m", "tune", *verb, "--output", str(output)]
    seconds = [process(command, root / "cache").seconds for _ in range(TIMES)]
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main(sys.argv[1:])
