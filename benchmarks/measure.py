"""What the benchmarks share: processes that are timed side by side, and the table of what came of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Args:
        work: what was done.
        ours: seconds of `tune`, or images/s where `unit` says so.
        theirs: the same of what it is compared with.
        against: what that is.
        ratio: how many times better we are, or what share of theirs we reach.
        asked: what it should be.
        reached: accuracy on the test part, where the work has one.
        unit: of ours and theirs.
    """

    work: str
    ours: float
    theirs: float
    against: str
    ratio: float
    asked: str
    reached: str = ""
    unit: str = "s"

    def __str__(self) -> str:
        cells = (
            self.work,
            f"{self.ours:.4g} {self.unit}",
            f"{self.theirs:.4g} {self.unit} ({self.against})",
            f"{self.ratio:.3g}",
            self.asked,
            self.reached,
        )
        return "| " + " | ".join(cells) + " |"


HEADER = "| work | ours | theirs | ratio | asked | test accuracy |\n|---|---|---|---|---|---|"


def timed(command: list[str], cache: Path, times: int = 1) -> tuple[float, str]:
    """Median of whole-process seconds, and the last run's stdout; raises if a run fails."""
    seconds, out = [], ""
    for _ in range(times):
        started = time.monotonic()
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)}, cwd=ROOT
        )
        seconds.append(time.monotonic() - started)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        out = done.stdout
    return statistics.median(seconds), out


def tune(*words: str, output: Path) -> list[str]:
    """A command line of `tune`."""
    return [sys.executable, "-m", "tune", "run", *words, f"output={output}", "--json"]


def accuracy(out: str) -> float:
    """Test accuracy of a run, or the best of a sweep, from its `--json` line."""
    answer = json.loads(out.splitlines()[-1])
    return max(run["metrics"]["test/accuracy"] for run in answer.get("trials", [answer]))


IMPORTS = "import torch, torchvision, timm, pytorch_lightning, torchmetrics, hydra"


def imports(cache: Path) -> float:
    """Seconds that a process needs to import what a run imports."""
    return timed([sys.executable, "-c", IMPORTS], cache, times=3)[0]
