from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, final

import torch
from torch.nn import functional as F

from tune.ranges import Range
from tune.transfer.interface import Transfer

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network
    from tune.transfer.interface import Sight


def information(logits: Tensor) -> Tensor:
    """``mean H(p) - H(mean p)``, a scalar, of logits (B, K): small where rows are decided, and not all alike."""
    p = logits.softmax(dim=1)
    return torch.special.entr(p).sum(dim=1).mean() - torch.special.entr(p.mean(dim=0)).sum()


def pseudo_labels(features: Tensor, probs: Tensor) -> Tensor:
    """(N,) the class whose centroid is nearest by angle, two rounds: centroids by probabilities, then by those labels.

    A class that no row has keeps no centroid in the second round, and none of its rows.

    Args:
        features: (N, D).
        probs: (N, K).
    """
    x = F.normalize(torch.cat([features, torch.ones_like(features[:, :1])], dim=1), dim=1)
    for _ in range(2):
        mass = probs.sum(dim=0)
        centres = F.normalize(probs.T @ x / mass.clamp_min(1e-8)[:, None], dim=1)  # (K, D + 1)
        likeness = (x @ centres.T).masked_fill(mass == 0, -torch.inf)
        labels = likeness.argmax(dim=1)
        probs = F.one_hot(labels, probs.shape[1]).to(x.dtype)
    return labels


@final
class SourceFree(Transfer):
    """Adapt a finished network to a target without labels, and without the data that it was trained on.

    Its classifier is frozen; the backbone learns to be decided on the target's rows and to use every class: term
    "information" is `information` of a batch, term "pseudo" ``beta`` times the cross-entropy to the labels that
    `pseudo_labels` gives before each epoch. `loss` and label smoothing play no part; label noise of the first epochs is
    what later ones learn from, so a network that is bad on the target to start with may get worse.

    Source: Liang et al. 2020, "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised
    Domain Adaptation" (SHOT), eq. 3 to 7. Theirs has a bottleneck and a weight-normalised classifier; here head and
    backbone are those of the run. The mean of p is over a batch, as in their code.

    Args:
        beta: strength of the pseudo-labels; 0.3 in the paper.
    """

    keeps_head = True

    def __init__(self, beta: Annotated[float, Range("[0, inf)")] = 0.3) -> None:
        self.beta = beta
        self.labels = torch.zeros(0, dtype=torch.int64)

    def each_epoch(self, epoch: int, sight: Sight) -> None:
        if self.beta:
            seen = sight.look("target")
            self.labels = seen.index.new_zeros(len(sight.data.table))
            self.labels[seen.index] = pseudo_labels(seen.embedding.float(), seen.logits.softmax(dim=1))

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        batch = batches["target"]
        output = network(batch.images)
        terms = {"information": information(output.logits)}
        if self.beta:
            labels = self.labels.to(batch.index.device)[batch.index]
            terms["pseudo"] = self.beta * F.cross_entropy(output.logits, labels)
        return terms
