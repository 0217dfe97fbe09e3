"""`python -m benchmarks.monitor`: what looking at a run costs it, in CPU seconds of its training steps.

Runs with `monitor=true` and `monitor=false` take turns in one process. Beside the ratio of their steps, in which a
busy machine still shows, stands what was spent in the hooks themselves, as a share of the steps of the same run; there
the watch for numbers that are not finite, which is always on, counts too. Writing monitor.csv is not part of a step,
and counts all the same.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from typing import Any

TURNS = 3
DRAWN = ["data=synthetic", "data.rows=100", "backbone.input_size=160", "batch_size=16", "precision=32-true"]
WORK = {
    "full, 8 steps an epoch": [*DRAWN, "freeze=full", "epoch_steps=8", "epochs=1"],
    "mid, cached, 8 steps an epoch": [*DRAWN, "freeze=mid", "epoch_steps=8", "epochs=3"],
    "deep, cached, 49 steps an epoch": [*DRAWN, "freeze=deep", "epoch_steps=49", "epochs=10"],
}
HEADER = (
    "| work | CPU time of a step | with / without, range | hooks of Monitor | of FiniteLoss |\n|---|---|---|---|---|"
)


def main(names: list[str]) -> None:
    """Print a line as soon as it is there."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        print(HEADER, flush=True)
        for name, words in WORK.items():
            if not names or name.split(",")[0] in names:
                print(_line(name, [*words, f"output={folder}/outputs"]), flush=True)


def _line(name: str, words: list[str]) -> str:
    _measured([*words, "monitor=false", "epochs=1"])  # fills the cache
    ratios, steps = [], []
    shares: dict[str, list[float]] = {"Monitor": [], "FiniteLoss": []}
    for turn in range(TURNS):
        pair = {}
        for on in (True, False) if turn % 2 else (False, True):
            step, hooks = _measured([*words, f"monitor={str(on).lower()}"])
            pair[on] = step
            if on:
                steps.append(step)
                for kind, found in shares.items():
                    found.append(hooks[kind])
        ratios.append(pair[True] / pair[False])
    ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    spent = " | ".join(f"{100 * statistics.median(found):.2f} %" for found in shares.values())
    return f"| {name} | {1000 * statistics.median(steps):.1f} ms | {ratio} | {spent} |"


def _measured(words: list[str]) -> tuple[float, dict[str, float]]:
    """CPU seconds per step of a run, and the share of them that each of the two callbacks took."""
    import pytorch_lightning as pl

    from tune.cli.main import main as tune
    from tune.train.callbacks.finite import FiniteLoss
    from tune.train.callbacks.monitor import Monitor
    from tune.train.callbacks.rectified import Rectified

    spent = {"Monitor": 0.0, "FiniteLoss": 0.0}
    seconds, steps = 0.0, 0

    def timed(hook: Any, kind: str) -> Any:
        def run(*arguments: Any) -> Any:
            started = time.process_time()
            try:
                return hook(*arguments)
            finally:
                spent[kind] += time.process_time() - started

        return run

    class Clock(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.before = time.process_time()

        def on_train_batch_end(self, *arguments: Any) -> None:
            nonlocal seconds, steps
            now = time.process_time()
            seconds, steps, self.before = seconds + now - self.before, steps + 1, now

    make, looker, noter = pl.Trainer.__init__, Rectified._looker, Rectified._noter

    def with_clocks(self: Any, *arguments: Any, callbacks: Any = None, **options: Any) -> None:
        for callback in callbacks:
            if isinstance(callback, (Monitor, FiniteLoss)):
                for hook in [name for name in vars(type(callback)) if name.startswith("on_")]:
                    setattr(callback, hook, timed(getattr(callback, hook), type(callback).__name__))
        make(self, *arguments, callbacks=[*callbacks, Clock()], **options)

    pl.Trainer.__init__ = with_clocks  # type: ignore[method-assign]
    Rectified._looker = lambda self, name: timed(looker(self, name), "Monitor")  # type: ignore[method-assign]
    Rectified._noter = lambda self, *of: timed(noter(self, *of), "Monitor")  # type: ignore[method-assign]
    try:
        if code := tune(["run", *words]):
            raise RuntimeError(f"exit code {code}: {words}")
    finally:
        pl.Trainer.__init__, Rectified._looker, Rectified._noter = make, looker, noter  # type: ignore[method-assign]
    return seconds / steps, {kind: value / seconds for kind, value in spent.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
