from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, final

from pytorch_lightning.callbacks import Callback

from tune.talk import Bar
from tune.train.objective import is_better

if TYPE_CHECKING:
    from collections.abc import Callable

    from tune.train.callbacks.keep_best import KeepBest

_EVERY_S = 0.5
"""How often the loss is read for the bar: on an accelerator that waits for the step."""


@final
class Progress(Callback):
    """One line per epoch; on a terminal also a bar over the whole run, with the time left, the loss and the best.

    Args:
        keep: knows the best epoch so far.
        say: prints a line.
    """

    def __init__(self, keep: KeepBest, say: Callable[[str], None]) -> None:
        self.keep, self.say = keep, say
        self.bar: Bar | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.started = self.read = time.monotonic()
        if not trainer.is_global_zero:
            return
        epoch, batches = trainer.current_epoch, trainer.num_training_batches
        title = f"epoch {epoch + 1}/{trainer.max_epochs}"
        if self.bar is None:
            self.bar = Bar(title, trainer.max_epochs * batches, epoch * batches)
        self.bar.update(epoch * batches, title)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.bar is None or self.bar.shown is None:
            return
        text = None
        if time.monotonic() - self.read > _EVERY_S:
            self.read, best = time.monotonic(), self.keep.best
            text = f"loss {float(outputs['loss']):.3f}"
            text += f"  best {self.keep.objective} {best['value']:.3f}" if best else ""
        self.bar.update(trainer.current_epoch * trainer.num_training_batches + batch_idx + 1, text=text)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        values, objective = trainer.callback_metrics, self.keep.objective
        best = self.keep.best
        value = float(values.get(objective, float("nan")))
        if not best or is_better(objective, value, best["value"]):
            best = {"value": value, "epoch": trainer.current_epoch + 1}
        has_loss = "val/loss" in values and objective != "val/loss"
        loss = f"  val/loss {short(float(values['val/loss']))}" if has_loss else ""
        self.say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {objective} {short(value)} "
            f"(best {short(best['value'])} at {best['epoch']}){loss}  {time.monotonic() - self.started:.1f} s"
        )

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def short(value: float) -> str:
    """Three digits behind the point, or in all where there are many in front of it."""
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.3g}"
