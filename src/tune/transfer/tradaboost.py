from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any, final

import numpy as np
import torch

from tune.ranges import Range
from tune.transfer.interface import Transfer, labelled, weighted_terms
from tune.transfer.ratio import effective_size

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network
    from tune.transfer.interface import Sight


def boosted_weights(
    features: NDArray[Any], labels: NDArray[Any], is_target: NDArray[np.bool_], rounds: int
) -> NDArray[np.float64]:
    """Weights of rows, (N,), mean 1: a source row that the rounds' classifiers get wrong loses, a target row gains.

    In a round the classifier h is fitted to all rows, ``e`` = its weighted error on target rows (from 1e-3 to 0.49),
    ``w *= (1 + sqrt(2 ln n / rounds))^-1`` for wrong source rows (n of them in all), ``w *= (1 - e) / e`` for wrong
    target rows.

    Source: Dai et al. 2007, "Boosting for Transfer Learning", figure 1. h is a logistic regression; theirs decides by a
    vote of the later half of the rounds, here the weights after the last one are all that is used.

    Args:
        features: (N, D).
        labels: (N,).
        is_target: (N,).
        rounds: at least 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, weights = StandardScaler().fit_transform(features), np.ones(len(features))
    sources = int((~is_target).sum())
    down = 1 / (1 + np.sqrt(2 * np.log(max(sources, 2)) / rounds))
    # The few target rows count as much as all of the source, or the first classifiers would not see them.
    weights[is_target] = sources / is_target.sum()
    for _ in range(rounds):
        weights *= len(weights) / weights.sum()
        with warnings.catch_warnings():  # a fit that stops after 300 steps is judged like any other, by what it says
            warnings.filterwarnings("ignore", message="lbfgs failed to converge")
            said = LogisticRegression(C=1e-2, max_iter=300).fit(x, labels, sample_weight=weights).predict(x)
        wrong = said != labels
        error = float(np.clip(weights[is_target & wrong].sum() / weights[is_target].sum(), 1e-3, 0.49))
        weights = weights * np.where(wrong, np.where(is_target, (1 - error) / error, down), 1.0)
    return weights * len(weights) / weights.sum()


@final
class TrAdaBoost(Transfer):
    """The loss on labelled rows of both domains, weighted by boosting: source rows that contradict the target fade.

    The weights come from rounds of logistic regressions on the features, as the network gives them before it trains,
    see `boosted_weights`; the network then trains once. They take the
    place of the data's own weights. Needs `data.labelled`, some labels of the target.

    Args:
        rounds: of boosting.
    """

    def __init__(self, rounds: Annotated[int, Range("[1, inf)")] = 10) -> None:
        self.rounds = rounds

    def prepare(self, sight: Sight) -> list[str]:
        source, target = sight.look("source"), sight.look("target")
        few = target.labels >= 0
        features = torch.cat([source.features, target.features[few]]).double().cpu().numpy()
        labels = torch.cat([source.labels, target.labels[few]]).cpu().numpy()
        is_target = np.arange(len(labels)) >= len(source.labels)
        weights = boosted_weights(features, labels, is_target, self.rounds)
        table = torch.ones(len(sight.data.table))
        table[torch.cat([source.index, target.index[few]]).cpu()] = torch.from_numpy(weights).float()
        sight.data.weigh(table)
        share, size = weights[is_target].sum() / weights.sum(), effective_size(weights[~is_target])
        text = f"{int(is_target.sum())} rows of the target carry {100 * share:.0f} % of the weight"
        return [f"tradaboost {text}; effective sample size of the source {size:.0f} of {int((~is_target).sum())}"]

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        batch = labelled(batches)
        return weighted_terms(self.loss, network(batch.images), batch)
