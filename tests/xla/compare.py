"""Train each smoke experiment on the TPU path and on the CPU; exit code 1 if their test accuracies differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXPERIMENTS = ("smoke/deep", "smoke/full")
WITHIN = 0.02
DEVICES = {"tpu": "xla", "cpu": "cpu"}


def train(experiment: str, trainer: str) -> tuple[float, str]:
    """Test accuracy (fraction of 1) and the words for the precision that was chosen.

    Raises:
        SystemExit: if the run fails, or did not run on the device that was asked for.
    """
    words = ["run", f"+experiment={experiment}", f"trainer={trainer}", "precision=auto", "--json", "--traceback"]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("start.py")), *words], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"{experiment} trainer={trainer} ended with exit code {done.returncode}")
    answer = json.loads(done.stdout.splitlines()[-1])
    record = json.loads((Path(answer["run_dir"]) / "run.json").read_text())
    if record["device"] != DEVICES[trainer]:
        sys.exit(f"{experiment} trainer={trainer} ran on {record['device']}")
    return answer["metrics"]["test/accuracy"], record["auto"]["precision"]


def main() -> int:
    """Print one line per experiment; 1 if any two accuracies are more than 2 points apart."""
    code = 0
    for experiment in EXPERIMENTS:
        (tpu, how), (cpu, _) = train(experiment, "tpu"), train(experiment, "cpu")
        agrees = abs(tpu - cpu) <= WITHIN
        code |= not agrees
        word = "PASS" if agrees else "FAIL"
        print(f"{word}  {experiment}  test/accuracy  tpu {tpu:.3f} ({how})  cpu {cpu:.3f}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
