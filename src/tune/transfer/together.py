"""Both domains in one forward pass, so that batch normalisation sees what it will see: one mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tune.batch import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tune.batch import Batch
    from tune.models.network import Network


def apart(distance: Callable[[Tensor, Tensor], Tensor], source: Output, target: Output) -> Tensor:
    """A distance of two batches' embeddings, in fp32: a mixed precision would not give 0 for equal ones."""
    with torch.autocast(source.embedding.device.type, enabled=False):
        return distance(source.embedding.float(), target.embedding.float())


def both(network: Network, batches: dict[str, Batch]) -> tuple[Output, Output]:
    """What the network says of the batch of the source, and of that of the target."""
    source, target = batches["source"].images, batches["target"].images
    output, rows = network(torch.cat([source, target])), len(source)
    return (
        Output(output.features[:rows], output.embedding[:rows], output.logits[:rows]),
        Output(output.features[rows:], output.embedding[rows:], output.logits[rows:]),
    )
