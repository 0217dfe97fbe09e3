from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, final

import torch
from torch import nn
from torch.nn import functional as F

from tune.losses.interface import loss_terms
from tune.ranges import Range
from tune.transfer.interface import Transfer
from tune.transfer.together import both

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.data.module import ImageData
    from tune.losses.interface import Loss
    from tune.models.network import Network


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * grads[0], None


def reverse(x: Tensor, factor: float) -> Tensor:
    """x itself; its gradient comes back times ``-factor``. Ganin et al. 2016, eq. 16 and 17."""
    reversed_x: Any = _Reverse.apply(x, factor)
    return reversed_x


def ramp(progress: float, steepness: float = 10.0) -> float:
    """From 0 at the start to 1: ``2 / (1 + exp(-steepness * progress)) - 1``. Ganin et al. 2016, section 5.2.2."""
    return 2 / (1 + math.exp(-steepness * progress)) - 1


@final
class Dann(Transfer, nn.Module):
    """The loss on the source, and a game: a discriminator learns to tell the domains apart, the network to hide them.

    Term "domain": the discriminator's cross-entropy, the mean of both batches' means, of the embedding (B, E). It
    learns at `lr`; what is in front of it gets its gradient reversed, times ``strength * ramp(progress)``.

    Source: Ganin et al. 2016, "Domain-Adversarial Training of Neural Networks", eq. 18, with the schedule of section
    5.2.2. The learning rate follows `scheduler`, not their formula, and they take the sum of both means.

    Args:
        strength: of the reversed gradient at the end, > 0; 1 in the paper.
        hidden: units of the discriminator's hidden layer.
    """

    shapes_embedding = True
    takes_target = True

    def __init__(
        self, strength: Annotated[float, Range("(0, inf)")] = 1.0, hidden: Annotated[int, Range("[1, inf)")] = 128
    ) -> None:
        super().__init__()
        self.strength, self.hidden = strength, hidden

    def refuse(self, network: Network, loss: Loss, data: ImageData) -> None:
        super().refuse(network, loss, data)
        self.discriminator = nn.Sequential(
            nn.Linear(network.embedding_dim, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1)
        )

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        source, target = both(network, batches)
        embedding = torch.cat([source.embedding, target.embedding]).float()
        with torch.autocast(embedding.device.type, enabled=False):
            said = self.discriminator(reverse(embedding, self.strength * ramp(progress))).squeeze(1)  # (2 B,)
        rows = len(source.logits)
        of_source = F.binary_cross_entropy_with_logits(said[:rows], torch.zeros_like(said[:rows]))
        of_target = F.binary_cross_entropy_with_logits(said[rows:], torch.ones_like(said[rows:]))
        terms = loss_terms(self.loss, source, batches["source"])
        return {**terms, "domain": (of_source + of_target) / 2}
