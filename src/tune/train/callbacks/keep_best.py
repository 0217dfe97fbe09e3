from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from pytorch_lightning.callbacks import Checkpoint

from tune.errors import RunError
from tune.evaluate.predict import write_predictions
from tune.evaluate.threshold import find_threshold
from tune.models.weights_file import note_threshold
from tune.train.objective import is_better

if TYPE_CHECKING:
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
        threshold: of the decision between two classes, or the metric that the one of the best epoch is best for.
    """

    def __init__(
        self,
        run_dir: Path,
        objective: str,
        names: list[str],
        classes: list[str],
        weights: WeightsFile,
        threshold: float | str | None,
    ) -> None:
        self.run_dir, self.threshold = run_dir, threshold
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
            index, labels, probs = pl_module.measured["val"]
            threshold = find_threshold(self.threshold, probs, labels)
            self.best = {"epoch": epoch, "value": metrics[self.objective], "metrics": validated, "threshold": threshold}
            self._save(trainer, "best.ckpt")
            if trainer.is_global_zero:
                self.weights.write(pl_module.network)
                note_threshold(self.run_dir, threshold)
                write_predictions(self.predictions, self.names, self.classes, index, labels, probs, threshold)
                pl_module.answers.write(self.predictions.parent, "val", self.names)
        self.stopped = bool(trainer.should_stop)
        self._save(trainer, "last.ckpt")

    def _save(self, trainer: Any, name: str) -> None:
        if trainer.is_global_zero:
            self.folder.mkdir(exist_ok=True)
        trainer.save_checkpoint(self.folder / name)
