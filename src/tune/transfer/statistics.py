from __future__ import annotations

from typing import TYPE_CHECKING, final

from tune.losses.interface import loss_terms
from tune.transfer.interface import Transfer, labelled

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network
    from tune.transfer.interface import Sight


@final
class Statistics(Transfer):
    """The loss on the source; at the end the target's features get the mean and deviation of the source's.

    Needs no label of the target and no training on it: the baseline that every other method has to beat. The statistics
    are those of all training rows of each domain, see `tune.models.align`. Until then nothing moves, so `val/infomax`
    is of the target's features as they are.

    Source: of each feature by itself what Sun et al. 2016, "Return of Frustratingly Easy Domain Adaptation", algorithm
    1, do with the whole covariance; here the target moves, not the source, so that nothing is trained again.
    """

    aligns = True

    def finish(self, network: Network, sight: Sight) -> list[str]:
        assert network.align is not None
        source, target = sight.look("source").features, sight.look("target").features
        network.align.fit(source, target)
        moved = (source.mean(dim=0) - target.mean(dim=0)).abs() / (source.std(dim=0) + 1e-6)
        return [
            f"target    its features move by {float(moved.mean()):.2f} standard deviations of the source on average"
        ]

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        batch = labelled(batches)
        return loss_terms(self.loss, network(batch.images), batch)
