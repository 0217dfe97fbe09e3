"""One of the trials that train as one: its schedule, its best epoch, when it stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from tune.config.build import build
from tune.data.loading.orders import labelled_counts
from tune.data.seeds import seed_of
from tune.evaluate.threshold import refuse_threshold
from tune.losses.fit import refuse_misfit
from tune.losses.interface import SeveralTerms
from tune.train.fused.optim import CannotFuse
from tune.train.objective import is_better, is_maximized
from tune.train.prepare import new_head, new_loss
from tune.train.regularize import Regularize

if TYPE_CHECKING:
    from torch import Tensor

    from tune.models.interface import Head
    from tune.train.prepare import Prepared


@dataclass
class Trial:
    """A trial of a group.

    Args:
        job: config, overrides, choices, run_dir and record, as `experiment.Job` has them.
        regularize: its strengths.
        head: with its first weights.
        loss: of its batches.
        optimizer: torch's, for its numbers; it steps nothing.
        schedule: of the learning rate, as Lightning takes it.
        rows: of metrics.csv.
        best: epoch, value and metrics of its best epoch.
        predictions: of the validation part in the best epoch: rows (N,), labels (N,), probabilities (N, C).
        weights: of its head in the best epoch.
        tested: of the test part: rows, labels, probabilities, and the mean loss.
        status: running, done, diverged or failed.
        cause: why it is not done.
        waited: epochs since its objective last got better, for early stopping.
        peak: that value, more of it being better.
    """

    job: dict[str, Any]
    regularize: Regularize
    head: Head
    loss: Any
    optimizer: torch.optim.Optimizer
    schedule: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    predictions: tuple[Tensor, Tensor, Tensor] | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    tested: tuple[Tensor, Tensor, Tensor, float] | None = None
    status: str = "running"
    cause: str = ""
    waited: int = 0
    peak: Tensor | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Its composed config."""
        return self.job["config"]

    @property
    def run_dir(self) -> Path:
        """Its folder."""
        return Path(self.job["run_dir"])

    @property
    def order(self) -> tuple[int, int | None]:
        """What decides which rows its batches hold: seed and number of the draw of its training rows."""
        return self.config["seed"], self.config["data"].get("bootstrap")

    @property
    def draws(self) -> int:
        """Seed of its dropout, as its network would be given it alone, in one process."""
        return seed_of(self.config["seed"], 0)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        scheduler = self.schedule["scheduler"]
        if isinstance(scheduler, LambdaLR):
            return float(scheduler.base_lrs[0]) * scheduler.lr_lambdas[0](step)
        return float(self.optimizer.param_groups[0]["lr"])

    def forget(self) -> None:
        """Let go of what was written."""
        self.predictions, self.tested, self.weights = None, None, {}

    def story(self) -> list[str]:
        """Lines of its run.log."""
        group, objective = self.job["record"].get("fused"), self.config["objective"]
        lines = [
            f"trained in fused group {group}, together with others; what they have in common: ../fused-{group}.log"
        ]
        lines += [
            f"epoch {row['epoch']}/{self.config['epochs']}  {objective} {row[objective]:.3f}  lr {row['lr']:.3g}"
            for row in self.rows
        ]
        return [*lines, self.status + (f": {self.cause}" if self.cause else "")]

    def see(self, epoch: int, row: dict[str, Any]) -> bool:
        """Take note of an epoch's metrics, and end if it is time to.

        Args:
            epoch: counted from 0.
            row: epoch, step, lr and metrics, as in metrics.csv.

        Returns:
            Whether this epoch is the best so far.
        """
        self.rows.append(row)
        objective = self.config["objective"]
        value = row[objective]
        improved = not self.best or is_better(objective, value, self.best["value"])
        if improved:
            validated = {name: number for name, number in row.items() if name.startswith("val/")}
            self.best = {"epoch": epoch + 1, "value": value, "metrics": validated}
        if self.schedule["interval"] == "epoch":
            self.schedule["scheduler"].step(torch.tensor(row[self.schedule["monitor"]]))
        if self._has_waited(value) or epoch + 1 == self.config["epochs"]:
            self.status = "done"
        return improved

    def _has_waited(self, value: float) -> bool:
        """Lightning's rule of early stopping, in its float32."""
        if not (patience := self.regularize.early_stopping):
            return False
        sign = 1 if is_maximized(self.config["objective"]) else -1
        score = sign * torch.tensor(value)
        if self.peak is None or bool(score - self.regularize.min_delta > self.peak):
            self.peak, self.waited = score, 0
        else:
            self.waited += 1
        return self.waited >= patience


def make_trial(job: dict[str, Any], prepared: Prepared) -> Trial:
    """Build what is the trial's own, as `prepare` builds it for a run alone.

    Args:
        job: config, overrides, choices, run_dir and record.
        prepared: what the group has in common.

    Raises:
        ConfigError: if its config does not fit.
        CannotFuse: if its schedule cannot be followed here.
    """
    config, backbone, steps = job["config"], prepared.network.backbone, prepared.data.steps_per_epoch
    regularize, classes = Regularize(**config["regularize"]), len(prepared.table.classes)
    refuse_threshold(config["threshold"], classes)
    head = new_head(config, backbone.feature_dim, classes)
    loss = new_loss(config, prepared.network, labelled_counts(prepared.table, prepared.parts))
    if isinstance(loss, SeveralTerms) or (isinstance(loss, torch.nn.Module) and loss.state_dict()):
        raise CannotFuse(f"{type(loss).__name__} has several terms, or a state of its own")
    refuse_misfit(loss, smoothing=regularize.label_smoothing, mixes=prepared.data.mixes, embedding_trains=True)
    group = {
        "params": [torch.nn.Parameter(torch.zeros(1, 1))],
        "lr": config["lr"],
        "weight_decay": regularize.weight_decay,
        "name": "head",
    }
    rates = {"lr": config["lr"], "weight_decay": regularize.weight_decay}
    optimizer = build(config["optimizer"], params=[group], **rates)
    schedule = build(
        config["scheduler"], optimizer=optimizer, total_steps=config["epochs"] * steps, steps_per_epoch=steps
    )
    kind = {"step": LambdaLR, "epoch": ReduceLROnPlateau}[schedule["interval"]]
    if not isinstance(schedule["scheduler"], kind) or schedule.get("frequency", 1) != 1:
        raise CannotFuse(f"{type(schedule['scheduler']).__name__} is no closed formula of the step")
    return Trial(job, regularize, head, loss, optimizer, schedule)
