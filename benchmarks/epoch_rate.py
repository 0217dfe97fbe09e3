"""`FILE tune|SCRIPT ARGUMENTS`: runs it, and writes the images/s of its training batches to a file.

The clock runs from the start of each training epoch to the end of its last batch: without imports and validation.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class Rate(pl.Callback):
    """Counts rows and seconds of training."""

    rows, seconds = 0, 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = self.before = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        Rate.rows += len(batch["target"].labels if isinstance(batch, dict) else batch[1])
        now = time.monotonic()
        Rate.seconds += now - self.before
        self.before = now


def main(file: Path, what: list[str]) -> None:
    """Run with a callback more."""
    make = pl.Trainer.__init__

    def with_rate(self: Any, *arguments: Any, callbacks: Any = None, **options: Any) -> None:
        make(self, *arguments, callbacks=[*(callbacks or []), Rate()], **options)

    pl.Trainer.__init__ = with_rate  # type: ignore[method-assign]
    if what[0] == "tune":
        from tune.cli.main import main as tune

        code = tune(what[1:])
    else:
        sys.argv = what
        runpy.run_path(what[0], run_name="__main__")
        code = 0
    file.write_text(f"{Rate.rows / Rate.seconds:.2f}")
    sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
