from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
import torch.nn.functional as F
from torch import nn

from tune.losses.interface import SeveralTerms, loss_terms, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tune.batch import Batch, Output


@final
class TaskLosses(SeveralTerms, nn.Module):
    """The loss of the label and, in training, one of each further task; outside training the label's alone.

    Losses of a task, L: cross-entropy of a classification, binary cross-entropy of a multi-label task, mean over its
    labels, squared error of a regression, in variances of the training rows. Each is the mean over the rows that have
    a label of the task, weighted by ``batch.weights``, and 0 where a batch has none.

    Fixed weights: term "TASK/loss" is ``weight * L``. Learned ones, with s = log σ² of each task, 0 at first:
    ``exp(-s) * L``, of a regression half of it, and the term "uncertainty" is the sum of ``s / 2`` over the label and
    the tasks that a batch has labels of. For a constant L the best s is log 2L, of a regression log L; so the weight of
    a task that is learned by heart, L = 0, grows for as long as the training goes on.

    Source: Kendall, Gal and Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics", eq. 7 and 10; s instead of σ as in their section 3.2. Our label may have any loss, and counts as a
    classification; so does a multi-label task, which they do not have.

    Args:
        label: loss of the label.
        tasks: kind and weight of each, as in `data.tasks`.
        learned: whether weights are learned; then theirs are not used.
    """

    def __init__(self, label: Any, tasks: Mapping[str, tuple[str, float]], learned: bool = False) -> None:
        super().__init__()
        self.label = label
        self.kinds = {name: kind for name, (kind, _) in tasks.items()}
        self.weights = {name: weight for name, (_, weight) in tasks.items()}
        if isinstance(label, SeveralTerms):
            self.shapes_embedding, self.rows_per_class = label.shapes_embedding, label.rows_per_class
        self.log_variances = nn.Parameter(torch.zeros(1 + len(tasks))) if learned else None

    def terms(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Reads what the label's loss reads, ``output.tasks``, ``batch.tasks`` and ``batch.weights``."""
        found = loss_terms(self.label, output, batch)
        if not self.training:
            return found
        losses = {name: task_loss(kind, output.tasks[name], batch.tasks[name]) for name, kind in self.kinds.items()}
        means = {name: weighted_mean(rows, batch.weights * given) for name, (rows, given) in losses.items()}
        if self.log_variances is None:
            return found | {f"{name}/loss": self.weights[name] * mean for name, mean in means.items()}
        factors = torch.exp(-self.log_variances)
        found = {name: factors[0] * term for name, term in found.items()}
        spread = self.log_variances[0] / 2
        for (name, mean), factor, s in zip(means.items(), factors[1:], self.log_variances[1:], strict=True):
            found[f"{name}/loss"] = (factor / 2 if self.kinds[name] == "regression" else factor) * mean
            spread = spread + s / 2 * losses[name][1].any()
        return {**found, "uncertainty": spread}


def task_loss(kind: str, said: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each row (B,), 0 where it has no label, and whether it has one (B,).

    Args:
        kind: of the task.
        said: (B, outputs), by the network.
        aims: (B,) or (B, L), NaN where a row has no label.
    """
    given = ~aims.isnan() if aims.ndim == 1 else ~aims[:, 0].isnan()  # (B,)
    aims = aims.nan_to_num()
    if kind == "classification":
        rows = F.cross_entropy(said, aims.long(), reduction="none")
    elif kind == "multi_label":
        rows = F.binary_cross_entropy_with_logits(said, aims, reduction="none").mean(dim=1)
    else:
        rows = (said[:, 0] - aims).square()
    return rows * given, given
