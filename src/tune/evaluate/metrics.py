"""Metrics of one set of predictions, by torchmetrics, each with a 95 % interval where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torchmetrics.functional import classification as tm

from tune.evaluate import intervals

if TYPE_CHECKING:
    from torch import Tensor


def measure(probs: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1, ROC AUC and (two classes) F1 of class 1, as fractions of 1.

    A set without one of the classes has no ROC AUC for it; with one class only `auroc` is left out.

    Args:
        probs: (N, K) float, on the CPU.
        labels: (N,) int64.
    """
    num_classes = probs.shape[1]
    predicted = probs.argmax(dim=1)
    confusion = confusion_matrix(probs, labels)
    present = confusion.sum(dim=1) > 0
    recall = confusion.diag()[present] / confusion.sum(dim=1)[present]
    found = {
        "accuracy": tm.multiclass_accuracy(predicted, labels, num_classes, average="micro"),
        "balanced_accuracy": recall.mean(),
        "f1_macro": tm.multiclass_f1_score(predicted, labels, num_classes, average="macro"),
    }
    if num_classes == 2:
        found["f1"] = tm.binary_f1_score(predicted, labels)
    if int(present.sum()) > 1:
        found["auroc"] = _auroc(probs, labels, present)
    return {name: float(value) for name, value in found.items()}


def confusion_matrix(probs: Tensor, labels: Tensor) -> Tensor:
    """(K, K) int64, true class by predicted class."""
    return tm.multiclass_confusion_matrix(probs.argmax(dim=1), labels, probs.shape[1])


def measure_intervals(probs: Tensor, labels: Tensor) -> dict[str, tuple[float, float]]:
    """95 % interval of each metric of `measure`: Wilson for accuracy, bootstrap over rows for the others."""
    confusion = confusion_matrix(probs, labels)
    found = {"accuracy": intervals.wilson(int(confusion.diag().sum()), len(labels))}
    found |= intervals.of_confusion(confusion.numpy())
    if int((confusion.sum(dim=1) > 0).sum()) > 1:
        found["auroc"] = intervals.of_auroc(probs.double().numpy(), labels.numpy())
    return found


def _auroc(probs: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Macro one-against-rest area over the classes that occur; of class 1 for two classes."""
    if probs.shape[1] == 2:
        return tm.binary_auroc(probs[:, 1].double(), labels)
    areas = [tm.binary_auroc(probs[:, k].double(), (labels == k).long()) for k in torch.nonzero(present).flatten()]
    return torch.stack(areas).mean()
