"""What the network says of further tasks: as probabilities or numbers, measured, and written beside the predictions."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import torch
from torchmetrics.functional import classification as tm

from tune.data.tasks.columns import SEPARATOR
from tune.evaluate.metrics import measure
from tune.evaluate.predict import Predictions
from tune.losses.tasks import task_loss
from tune.run_dir import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from tune.batch import Batch, Output
    from tune.data.tasks.task import Task, TaskLabels


class TaskAnswers:
    """Collects what the network says of the tasks, part by part.

    Args:
        tasks: of the data; without any, nothing is collected.
    """

    def __init__(self, tasks: Mapping[str, TaskLabels]) -> None:
        self.tasks = tasks
        self._said = {name: Predictions() for name in tasks}
        self._of_part: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
        self.metrics: dict[str, dict[str, float]] = {}  # of each part: "TASK/METRIC"

    def add(self, batch: Batch, output: Output) -> None:
        """Keep what was said of a batch."""
        for name, said in self._said.items():
            said.add(batch.index, batch.labels, output.tasks[name], output.logits.new_zeros(()))

    def measure(self, part: str, index: Tensor) -> dict[str, float]:
        """Metrics of every task, as "TASK/METRIC".

        Args:
            part: that was looked at.
            index: (N,) its rows, ascending.
        """
        said = {name: each.gather_logits() for name, each in self._said.items()}
        self._of_part[part] = index, said
        self.metrics[part] = {
            f"{name}/{metric}": value
            for name, labels in self.tasks.items()
            for metric, value in measure_task(labels.task, said[name], _values(labels, index)).items()
        }
        return self.metrics[part]

    def write(self, folder: Path, part: str, names: Sequence[str]) -> None:
        """Write PART_TASK.csv: row, path, label, predicted and, but for a regression, p_<class>.

        Args:
            folder: of the files; it exists.
            part: that was measured.
            names: of every row of the data.
        """
        index, said = self._of_part[part]
        for name, labels in self.tasks.items():
            task, text = labels.task, io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["row", "path", "label", "predicted", *(f"p_{each}" for each in task.classes)])
            answers, values = answer(task, said[name]), _values(labels, index)
            for row, truth, guess, p in zip(
                index.tolist(), values.tolist(), told(task, answers), answers.tolist(), strict=True
            ):
                probs = [f"{value:.6f}" for value in p] if task.classes else []
                writer.writerow([row, names[row], _told(task, truth), guess, *probs])
            atomic_write(folder / f"{part}_{name}.csv", text.getvalue())

    def lines(self, part: str) -> list[str]:
        """A line of metrics for each task."""
        lines = []
        for name, labels in self.tasks.items():
            index, _ = self._of_part[part]
            found = {key.partition("/")[2]: v for key, v in self.metrics[part].items() if key.startswith(f"{name}/")}
            words = "   ".join(f"{metric} {value:.3f}" for metric, value in found.items() if metric != "loss")
            lines.append(f"{name:<9} {words}   n = {int(labels.is_given[index.numpy()].sum())}")
        return lines


def answer(task: Task, said: Tensor) -> Tensor:
    """Probabilities (N, K) or (N, L), float32, or numbers (N,) in the unit of the column, float64.

    Args:
        task: that was asked for.
        said: (N, outputs) by the network.
    """
    if task.kind == "regression":
        return said[:, 0].double() * task.scale + task.centre
    probs = said.double().softmax(dim=1) if task.kind == "classification" else said.double().sigmoid()
    return probs.float()


def measure_task(task: Task, said: Tensor, values: Tensor) -> dict[str, float]:
    """Metrics over the rows that have a label; none if no row has.

    Classification: as `measure`. Multi-label: accuracy over rows and labels, share of rows with all labels right
    (exact_match), F1 over all (f1_micro) and its mean over labels (f1_macro), mean ROC AUC of the labels that some rows
    have and others have not. Regression, in the unit of the column: mean absolute and root mean squared error, and R²
    where values differ. Loss: mean of the row losses, in training's unit, without any weight.

    Args:
        task: that was asked for.
        said: (N, outputs) by the network, on the CPU.
        values: (N,) or (N, L), NaN in rows without a label.
    """
    given = ~(values if values.ndim == 1 else values[:, 0]).isnan()
    said, values = said[given], values[given]
    if not len(said):
        return {}
    aims = (values - task.centre) / task.scale
    found = {"loss": float(task_loss(task.kind, said.double(), aims)[0].mean())}
    if not bool(torch.isfinite(said).all()):
        return found
    answers = answer(task, said)
    if task.kind == "classification":
        return found | measure(answers, values.long())
    return found | (_measure_labels(answers, values.int()) if task.kind == "multi_label" else _errors(answers, values))


def _measure_labels(probs: Tensor, values: Tensor) -> dict[str, float]:
    count = probs.shape[1]
    found = {
        "accuracy": tm.multilabel_accuracy(probs, values, count, average="micro"),
        "exact_match": tm.multilabel_exact_match(probs, values, count),
        "f1_macro": tm.multilabel_f1_score(probs, values, count, average="macro"),
        "f1_micro": tm.multilabel_f1_score(probs, values, count, average="micro"),
    }
    differs = [label for label in range(count) if 0 < int(values[:, label].sum()) < len(values)]
    if differs:
        found["auroc"] = torch.stack([tm.binary_auroc(probs[:, each], values[:, each]) for each in differs]).mean()
    return {name: float(value) for name, value in found.items()}


def _errors(told: Tensor, values: Tensor) -> dict[str, float]:
    error = told - values
    found = {"mae": float(error.abs().mean()), "rmse": float(error.square().mean().sqrt())}
    spread = (values - values.mean()).square().sum()
    return found | ({"r2": float(1 - error.square().sum() / spread)} if float(spread) > 0 else {})


def told(task: Task, answers: Tensor) -> list[str]:
    """What is most likely of each row, as the data would say it, of what `answer` gave."""
    if task.kind == "multi_label":
        guesses = answers > 0.5
    else:
        guesses = answers.argmax(dim=1) if task.kind == "classification" else answers
    return [_told(task, guess) for guess in guesses.tolist()]


def _values(labels: TaskLabels, index: Tensor) -> Tensor:
    return torch.from_numpy(labels.values)[index]


def _told(task: Task, value: Any) -> str:
    """A value as the data would say it; empty for NaN."""
    if isinstance(value, list):
        if value[0] != value[0]:
            return ""
        return SEPARATOR.join(name for name, has in zip(task.classes, value, strict=True) if has) or SEPARATOR
    if value != value:
        return ""
    return task.classes[int(value)] if task.classes else f"{value:.8g}"
