from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, final

import numpy as np
import torch

from tune.errors import RunError
from tune.ranges import Range
from tune.transfer.interface import Transfer, labelled, weighted_terms
from tune.transfer.ratio import by_classifier, by_means, effective_size

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network
    from tune.transfer.interface import Sight


@final
class Reweight(Transfer):
    """The loss on source rows, each weighted by how much it looks like the target: for a shift of the inputs alone.

    Weights are the ratio of the densities of the features, as the network gives them before it trains, clipped and
    divided by their mean; they take the place of the data's own. Validation rows of the source are weighted too, in
    val/loss alone, so the epoch must not be chosen by their accuracy. Labels of the target are not used.

    Source: Shimodaira 2000, "Improving predictive inference under covariate shift by weighting the log-likelihood
    function", eq. 1.2; the ratio as `tune.transfer.ratio` says.

    Args:
        by: classifier (a logistic regression tells the domains apart) or means (kernel mean matching).
        clip: largest ratio, before division by the mean.
    """

    def __init__(
        self, by: Literal["classifier", "means"] = "classifier", clip: Annotated[float, Range("[1, inf)")] = 10.0
    ) -> None:
        self.by, self.clip = by, clip

    def prepare(self, sight: Sight) -> list[str]:
        train, val, target = sight.look("source"), sight.look("source", "val"), sight.look("target")
        rows, others = _rows(torch.cat([train.features, val.features])), _rows(target.features)
        ratio = (
            by_classifier(rows, others, sight.seed) if self.by == "classifier" else by_means(rows, others, self.clip)
        )
        weights = np.clip(ratio, 0, self.clip)
        trained, validated = weights[: len(train.index)], weights[len(train.index) :]
        if not trained.any() or not validated.any():
            raise RunError(
                "transfer: no row of the source looks like the target; reweighting has nothing to learn from"
            )
        trained, validated = trained / trained.mean(), validated / validated.mean()
        table = torch.ones(len(sight.data.table))
        table[train.index.cpu()] = torch.from_numpy(trained).float()
        table[val.index.cpu()] = torch.from_numpy(validated).float()
        sight.data.weigh(table)
        text = (
            f"weights {trained.min():.2f} to {trained.max():.2f}, effective sample size {effective_size(trained):.0f}"
        )
        return [f"reweight  {text} of {len(trained)}"]

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        batch = labelled(batches)
        return weighted_terms(self.loss, network(batch.images), batch)


def _rows(features: Tensor) -> NDArray[np.float64]:
    return features.double().cpu().numpy()
