"""The hooks of a transfer method. To add one: a file here and a YAML in conf/transfer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from tune.losses.interface import loss_terms

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output
    from tune.data.module import ImageData
    from tune.data.transforms import InputTransform
    from tune.losses.interface import Loss
    from tune.models.interface import Backbone
    from tune.models.network import Network


@dataclass(frozen=True)
class Seen:
    """What the network says of rows of a domain, as they are: no augmentation, eval mode, no gradient.

    Args:
        index: (N,) rows of the data table, ascending.
        labels: (N,) true classes; -1 where the run may not know them.
        features: (N, D).
        embedding: (N, E).
        logits: (N, K).
    """

    index: Tensor
    labels: Tensor
    features: Tensor
    embedding: Tensor
    logits: Tensor


class Sight(Protocol):
    """What a method may look at besides the batches: the run's data, and what the network says of it now.

    Attributes:
        data: tables, parts, the transform of the images; `data.weigh` gives rows another weight in the loss.
        seed: of the training.
    """

    @property
    def data(self) -> ImageData: ...

    @property
    def seed(self) -> int: ...

    def look(self, domain: str = "target", part: Literal["train", "val"] = "train") -> Seen:
        """Run the network over a part of a domain; what is cached of it is not computed again."""
        ...

    def ask(self, backbone: Backbone, transform: InputTransform, about: str) -> tuple[Tensor, Tensor]:
        """Run another backbone over the training rows as they are, once, and keep what it says in the cache.

        Args:
            backbone: in eval mode afterwards, and frozen.
            transform: from the images of the data to what it takes.
            about: what it is, in a few words.

        Returns:
            Rows of the data table (N,), ascending, and features (N, D) float32 of each, on the CPU.
        """
        ...


class Transfer(ABC):
    """How knowledge gets from what the backbone knows to the rows at hand.

    One that has parameters of its own is an nn.Module besides: they learn at `lr`, stand in the audit as `transfer.*`
    and in checkpoints, and are no part of the network that is handed on.

    Attributes:
        shapes_embedding: whether a term reads the features or the embedding, so that something in front of the last
            linear layer must train.
        takes_target: whether batches of the target, without labels, come beside those of the source.
        aligns: whether `network.align` moves the features of the target.
        keeps_head: whether the head is that of the run that the weights come from, and stays as it is.
    """

    shapes_embedding: bool = False
    takes_target: bool = False
    aligns: bool = False
    keeps_head: bool = False

    def refuse(self, network: Network, loss: Loss, data: ImageData) -> None:
        """Keep the loss, and look at the run before its folder exists. The place for parameters that need shapes.

        Raises:
            ConfigError: if the method cannot work here, with every reason.
        """
        self.loss = loss

    def prepare(self, sight: Sight) -> list[str]:  # a hook that most methods leave empty
        """Look at the whole run once, before the first step, with the network as it starts; again when resumed.

        Returns:
            Lines for the user.
        """
        return []

    def each_epoch(self, epoch: int, sight: Sight) -> None:  # noqa: B027  # a hook that most methods leave empty
        """Act before an epoch starts; `epoch` counts from 0."""

    def finish(self, network: Network, sight: Sight) -> list[str]:  # as above
        """Change the network, which has its best weights now, before it is tested and handed on.

        Returns:
            Lines for the user.
        """
        return []

    @abstractmethod
    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        """Terms of the training loss by name, each a scalar; their sum is minimised.

        Args:
            network: the network that trains.
            batches: one batch per domain; plain data has "target" alone, data=domains has "source" as well.
            progress: share of the training that is behind us, 0 to 1.
        """


def weighted_terms(loss: Loss, output: Output, batch: Batch) -> dict[str, Tensor]:
    """Terms of the loss, times the mean weight of the batch: over many batches the mean of weighted rows.

    A loss divides by the weights of its batch, so that a batch of light rows would count as much as one of heavy ones.
    """
    return {name: value * batch.weights.mean() for name, value in loss_terms(loss, output, batch).items()}


def labelled(batches: dict[str, Batch]) -> Batch:
    """The batch whose labels the run may know: the source's, or the only one."""
    return batches["source"] if "source" in batches else batches["target"]
