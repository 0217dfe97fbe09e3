from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, final

import numpy as np
import torch
from torch.nn import functional as F

from tune.data.loading.orders import labelled_counts
from tune.errors import ConfigError, Problem
from tune.losses.interface import loss_terms, weighted_mean
from tune.ranges import Range
from tune.transfer.interface import Transfer, labelled
from tune.transfer.teacher import KEY, by_row, find_teacher

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.data.module import ImageData
    from tune.models.interface import Backbone
    from tune.models.network import Network
    from tune.transfer.interface import Sight

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression, smallest: most regularised
_FOLDS = 5


@final
class Distill(Transfer):
    """The run's loss, and beside it what a teacher says of each row, softened.

    Terms: every one of ``loss`` times ``1 - alpha``, and "distill": ``alpha * T^2 * KL(p || q)``, p and q the softmax
    of the teacher's and of the student's logits, divided by T; mean over rows, weighted by ``batch.weights``. T² keeps
    the gradient's size as T grows: in the limit the term is ``alpha / 2K`` times the squared distance of the logits,
    those of each row less their mean.

    A run teaches what its network says; classes are matched by name. A backbone alone says nothing of your classes: a
    logistic regression on its features is fitted to the training rows, in five folds, so that each row is judged by one
    that has not seen its label; of five strengths of its L2 penalty the one with the least log loss on these rows.

    The teacher is asked once, of the plain images (see `tune.transfer.teacher`).

    Source: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2. The same.

    Args:
        teacher: ``run:ID``, or a backbone: ``backbone@transfer.teacher=efficientnet_lite2``.
        temperature: T; more of it says more of the classes that the teacher thinks unlikely.
        alpha: share of the teacher; with 1 the labels are not used.
        output: folder below which runs are looked for.

    Raises:
        ConfigError: by `refuse`, if there is no such teacher, it knows other classes, or images are mixed.
    """

    def __init__(
        self,
        teacher: str | Backbone,
        temperature: Annotated[float, Range("(0, 100]")] = 4.0,
        alpha: Annotated[float, Range("(0, 1]")] = 0.5,
        output: str = "outputs",
    ) -> None:
        self.named: Any = teacher
        self.temperature, self.alpha, self.output = temperature, alpha, output

    def refuse(self, network: Network, loss: Any, data: ImageData) -> None:
        """Find the teacher, and hold its classes against those of the data."""
        super().refuse(network, loss, data)
        refuse_mixed(data)
        self.teacher = find_teacher(self.named, data, self.output)
        if self.teacher.network is not None:
            self.columns = self.teacher.columns(data.table.classes)
        elif min(labelled_counts(data.table, data.parts)) < 2:
            rare = data.table.classes[int(np.argmin(labelled_counts(data.table, data.parts)))]
            text = f"a backbone alone is fitted in folds, and the class {rare!r} has a single training row: name a run"
            raise ConfigError(Problem(KEY, text))

    def prepare(self, sight: Sight) -> list[str]:
        """Ask the teacher of every training row."""
        index, features = self.teacher.ask(sight)
        table, rows = sight.data.table, index.numpy()
        labels = table.labels[rows]
        if self.teacher.network is None:
            weights = None if table.weights is None else table.weights[rows]
            logits, how = out_of_fold(features.numpy(), labels, weights, sight.seed), "logistic regression, in folds"
        else:
            logits, how = self.teacher.judge(features).logits[:, self.columns].float(), "as it was trained"
        right = float((logits.argmax(dim=1).numpy() == labels).mean())
        self.said = by_row(index, logits, len(table))
        return [
            f"teacher   {self.teacher.about} ({how}): accuracy {right:.3f} on the training rows",
            *self.teacher.notes(sight.data),
        ]

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        batch = labelled(batches)
        output = network(batch.images)
        self.said = self.said.to(output.logits.device)
        rows = softened(self.said[batch.index], output.logits, self.temperature)
        taught = {"distill": self.alpha * weighted_mean(rows, batch.weights)}
        return {name: (1 - self.alpha) * term for name, term in loss_terms(self.loss, output, batch).items()} | taught


def softened(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(p || q)`` of each row (B,), from logits (B, K) of both."""
    log_p, log_q = (F.log_softmax(logits / temperature, dim=1) for logits in (teacher, student))
    return temperature**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)


def refuse_mixed(data: ImageData) -> None:
    """Refuse mixed images: the teacher saw none of them.

    Raises:
        ConfigError: if images are mixed.
    """
    if data.mixes:
        text = "mixes two images, and the teacher was asked of each alone: leave mixup and cutmix at 0"
        raise ConfigError(Problem("augment", text))


def out_of_fold(features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, seed: int) -> Tensor:
    """Log-probabilities (N, K) of rows, each from a logistic regression that was fitted to other rows.

    Args:
        features: (N, D).
        labels: (N,) of K classes, each with two rows or more.
        weights: (N,) of the rows, None where all weigh the same.
        seed: of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(min(_FOLDS, int(np.bincount(labels).min())), shuffle=True, random_state=seed)
    best, least = np.empty(0), np.inf
    for strength in _STRENGTHS:
        probs = np.empty((len(labels), int(labels.max()) + 1))
        for others, rows in folds.split(features, labels):
            scale = StandardScaler().fit(features[others])
            model = LogisticRegression(C=strength, max_iter=1000)
            model.fit(scale.transform(features[others]), labels[others], None if weights is None else weights[others])
            probs[rows] = model.predict_proba(scale.transform(features[rows]))
        loss = log_loss(labels, probs, sample_weight=weights)
        if loss < least:
            best, least = probs, loss
    return torch.from_numpy(best).clamp_min(1e-7).log().float()
