"""What a run does beside training: keep the best, write the history, notice what is not a number, show progress."""

from __future__ import annotations

import csv
import io
import sys
import time
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from tune.errors import Diverged, RunError
from tune.evaluate.predict import write_predictions
from tune.run_dir import atomic_write
from tune.train.objective import is_better

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tune.models.weights_file import WeightsFile


@final
class KeepBest(Checkpoint):
    """Keeps `checkpoints/best.ckpt` and `checkpoints/last.ckpt`, model.safetensors and predictions/val.csv of the best.

    Best is best on the objective, the earliest on ties. The last checkpoint is written after everything else of its
    epoch, so that whatever is killed goes on from the epoch before as if this one had not been tried.

    Args:
        run_dir: the run folder.
        objective: name of the metric.
        names: name of every row of the data.
        classes: class names.
        weights: writes model.safetensors.
    """

    def __init__(
        self, run_dir: Path, objective: str, names: list[str], classes: list[str], weights: WeightsFile
    ) -> None:
        self.folder, self.predictions = run_dir / "checkpoints", run_dir / "predictions" / "val.csv"
        self.objective, self.names, self.classes, self.weights = objective, names, classes, weights
        self.best: dict[str, Any] = {}
        self.stopped = False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.stopped = state_dict["best"], state_dict["stopped"]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = self.stopped

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.objective not in metrics:
            known = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise RunError(f"objective: {self.objective} is not measured here. Measured: {known}")
        if not self.best or is_better(self.objective, metrics[self.objective], self.best["value"]):
            validated = {name: value for name, value in metrics.items() if name.startswith("val/")}
            epoch = trainer.current_epoch + 1
            self.best = {"epoch": epoch, "value": metrics[self.objective], "metrics": validated}
            self._save(trainer, "best.ckpt")
            if trainer.is_global_zero:
                self.weights.write(pl_module.network)
                write_predictions(self.predictions, self.names, self.classes, *pl_module.measured["val"])
        self.stopped = bool(trainer.should_stop)
        self._save(trainer, "last.ckpt")

    def _save(self, trainer: Any, name: str) -> None:
        if trainer.is_global_zero:
            self.folder.mkdir(exist_ok=True)
        trainer.save_checkpoint(self.folder / name)


@final
class History(Callback):
    """Writes metrics.csv: one row per epoch with step, the head's learning rate and every metric.

    A resumed run drops the rows of epochs that it trains again.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / "metrics.csv"
        self.rows: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        rate = next(group["lr"] for group in trainer.optimizers[0].param_groups if group["name"] == "head")
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": rate}
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        self.rows.append(row)
        if trainer.is_global_zero:
            text = io.StringIO()
            columns = list(dict.fromkeys(name for each in self.rows for name in each))
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            atomic_write(self.path, text.getvalue())


@final
class FiniteLoss(Callback):
    """Ends the run when the loss is NaN or infinite.

    Every step is looked at on the CPU. Elsewhere a look costs a wait for the device, so the steps are remembered
    there and looked at once an epoch.
    """

    def __init__(self) -> None:
        self.finite: torch.Tensor | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.finite = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        finite = torch.isfinite(outputs["loss"].detach())
        if pl_module.device.type == "cpu":
            if not finite:
                raise Diverged(self._text(trainer, f", step {trainer.global_step}"))
        else:
            self.finite = finite if self.finite is None else self.finite & finite

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.finite is not None and not bool(self.finite):
            raise Diverged(self._text(trainer, ""))
        values = trainer.callback_metrics
        if not all(bool(torch.isfinite(value)) for name, value in values.items() if name.endswith("/loss")):
            raise Diverged(self._text(trainer, ", validation"))

    def _text(self, trainer: Any, place: str) -> str:
        epoch = trainer.current_epoch + 1
        return f"the loss is no longer a finite number (epoch {epoch}{place}). Try a smaller lr, or gradient clipping"


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
        loss = "" if objective == "val/loss" else f"  val/loss {float(values['val/loss']):.3f}"
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
