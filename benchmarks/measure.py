"""What the benchmarks share: processes that are timed side by side, and the table of what came of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("TUNE_PEERS", ""))
"""Folder with the scripts that `tune` is timed beside: make_elpv_folder.py, lightning_naive.py, sklearn_features.py."""


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


@dataclass(frozen=True)
class Done:
    """A process that ended well: seconds from start to end, peak memory in MB, what it wrote to stdout."""

    seconds: float
    peak: float
    out: str


def process(command: list[str], cache: Path, **env: str) -> Done:
    """Run a process with an own cache folder; raises if it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.monotonic()
        child = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", **env},
            cwd=ROOT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {child.returncode}\n{out.read()}\n{err.read()}")
        return Done(seconds, usage.ru_maxrss / 1024, out.read())


def timed(command: list[str], cache: Path, times: int = 1) -> tuple[float, str]:
    """Median of whole-process seconds, and the last run's stdout; raises if a run fails."""
    runs = [process(command, cache) for _ in range(times)]
    return statistics.median(run.seconds for run in runs), runs[-1].out


def tune(*words: str, output: Path) -> list[str]:
    """A command line of `tune`."""
    return [sys.executable, "-m", "tune", "run", *words, f"output={output}", "--json"]


def accuracy(out: str) -> float:
    """Test accuracy of a run, or the best of a sweep, from its `--json` line."""
    answer = json.loads(out.splitlines()[-1])
    return max(run["metrics"]["test/accuracy"] for run in answer.get("trials", [answer]))


def reached(out: str, least: float) -> str:
    """Test accuracy; speed is never bought with it."""
    value = accuracy(out)
    if value < least:
        raise RuntimeError(f"test accuracy {value:.3f}, expected at least {least}")
    return f"{value:.3f}"


def peer_accuracy(out: str) -> str:
    """The best that a peer's script printed after "acc"."""
    return f"{max(float(line.split()[1]) for line in out.splitlines() if line.startswith('acc')):.3f}"


def require_peers() -> None:
    """Make sure that the scripts to be timed beside are there."""
    if not (PEERS / "lightning_naive.py").is_file():
        raise SystemExit("TUNE_PEERS=FOLDER must name the folder of lightning_naive.py and sklearn_features.py")


def cells_folder(folder: Path) -> Path:
    """The solar cells as folders of train and test, as the peers' scripts want them."""
    process([sys.executable, str(PEERS / "make_elpv_folder.py"), str(folder)], folder)
    return folder


def lightning_script(folder: Path, trained: str) -> Path:
    """The peers' Lightning script with other layers trained.

    Args:
        folder: where to write it.
        trained: a Python expression of the parameter's name `n`.
    """
    source = (PEERS / "lightning_naive.py").read_text()
    for old, new in (
        ('"classifier" in n', trained),
        ("s.m.eval(); ", "" if trained == "True" else "[m.eval() for p, m in s.m.named_modules() if FROZEN(p)]; "),
        ("s.m.classifier.parameters()", "[p for p in s.m.parameters() if p.requires_grad]"),
    ):
        if old not in source:
            raise RuntimeError(f"lightning_naive.py is not what it was: {old} is not in it")
        source = source.replace(old, new)
    source = source.replace("class Net(", f"FROZEN = lambda n: not ({trained})\nclass Net(", 1)
    path = folder / "lightning.py"
    path.write_text(f"import sys; sys.path.insert(0, {str(PEERS)!r})\n{source}")
    return path


IMPORTS = "import torch, torchvision, timm, pytorch_lightning, torchmetrics, hydra"


def imports(cache: Path) -> float:
    """Seconds that a process needs to import what a run imports."""
    return timed([sys.executable, "-c", IMPORTS], cache, times=3)[0]
