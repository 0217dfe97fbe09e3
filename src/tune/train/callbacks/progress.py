from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, final

from pytorch_lightning.callbacks import Callback

from tune.train.objective import is_better

if TYPE_CHECKING:
    from collections.abc import Callable

    from tune.train.callbacks.keep_best import KeepBest


@final
class Progress(Callback):
    """One line per epoch; on a terminal also a bar that moves within the epoch.

    Args:
        keep: knows the best epoch so far.
        say: prints a line.
    """

    def __init__(self, keep: KeepBest, say: Callable[[str], None]) -> None:
        self.keep, self.say = keep, say
        self.bar: Any = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bar

            self.bar = Bar(console=Console(stderr=True), transient=True)
            title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.task = self.bar.add_task(title, total=trainer.num_training_batches)
            self.bar.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.bar is not None:
            self.bar.advance(self.task)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()
        values, objective = trainer.callback_metrics, self.keep.objective
        best = self.keep.best
        value = float(values.get(objective, float("nan")))
        if not best or is_better(objective, value, best["value"]):
            best = {"value": value, "epoch": trainer.current_epoch + 1}
        loss = f"  val/loss {float(values['val/loss']):.3f}" if "val/loss" in values and objective != "val/loss" else ""
        self.say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {objective} {value:.3f} "
            f"(best {best['value']:.3f} at {best['epoch']}){loss}  {time.monotonic() - self.started:.1f} s"
        )

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
