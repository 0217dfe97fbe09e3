"""`HEADS [ROWS]`: seconds of training so many heads at once, without preparation and files.

Rows are the solar cells, or as many drawn images.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tune.config.compose import ConfigTree, expand
from tune.train.fused import run


def main(heads: int, rows: int) -> None:
    """Train a group in this process and print the seconds."""
    rates = ",".join(f"{1e-4 * 1.01**number:.6g}" for number in range(heads))
    words = ["+experiment=quickstart", f"lr={rates}"]
    if rows:
        words += ["data=synthetic", f"data.rows={rows}", "backbone.input_size=32"]
    spent = 0.0
    train = run._train

    def timed(*arguments: Any) -> None:
        nonlocal spent
        started = time.monotonic()
        train(*arguments)
        spent += time.monotonic() - started

    run._train = timed
    with tempfile.TemporaryDirectory() as folder:
        trials = expand(ConfigTree.find(None), words)
        run.run_group([_job(trial, Path(folder) / str(number)) for number, trial in enumerate(trials)])
    sys.stdout.write(f"{spent:.3f}\n")


def _job(trial: Any, run_dir: Path) -> dict[str, Any]:
    run_dir.mkdir(parents=True)
    asked = {"config": trial.cfg, "overrides": trial.overrides, "choices": trial.choices}
    return {**asked, "run_dir": str(run_dir), "record": {"fused": 1}}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
