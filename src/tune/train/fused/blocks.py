"""The K trials in blocks that are run as one: equal loss and dropout, equally many trials for each order of rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import vmap

from tune.batch import Batch, Output

if TYPE_CHECKING:
    from tune.train.fused.heads import StackedHeads
    from tune.train.fused.trial import Trial


@dataclass
class Block:
    """S orders of rows with T trials each, in one stretch of the stacked heads: all of the first, then of the second …

    Args:
        start: number of its first head.
        orders: (S,) place of each order in the batch.
        draws: of each order, the seed of its dropout.
        each: T.
        shares: of each dropout layer.
        loss: of all its trials.
        smoothing: (S, T), of their labels.
    """

    start: int
    orders: Tensor
    draws: list[int]
    each: int
    shares: tuple[float, ...]
    loss: Any
    smoothing: Tensor

    @property
    def end(self) -> int:
        """Number of the first head behind it."""
        return self.start + len(self.orders) * self.each


def arrange(trials: Sequence[Trial], shares: Sequence[tuple[float, ...]]) -> list[int]:
    """An order of trials in which those of a block stand together."""
    count: dict[tuple[Any, ...], int] = defaultdict(int)
    kinds = [(share, _loss(trial), trial.order) for trial, share in zip(trials, shares, strict=True)]
    for kind in kinds:
        count[kind] += 1
    return sorted(range(len(trials)), key=lambda place: (*kinds[place][:2], count[kinds[place]], str(kinds[place][2])))


def blocks_of(
    trials: Sequence[Trial], shares: Sequence[tuple[float, ...]], orders: Sequence[tuple[int, int | None]]
) -> list[Block]:
    """The blocks of trials that are in the order of `arrange`.

    Args:
        trials: in that order.
        shares: of their dropout layers.
        orders: of the rows in the batch: seed and draw, in its order.
    """
    runs: list[list[int]] = []  # trials in a row with the same loss, dropout and order
    kinds = [(share, _loss(trial), trial.order) for trial, share in zip(trials, shares, strict=True)]
    for place, kind in enumerate(kinds):
        if place and kind == kinds[place - 1]:
            runs[-1].append(place)
        else:
            runs.append([place])
    grouped: dict[tuple[Any, ...], list[list[int]]] = defaultdict(list)
    for run in runs:
        grouped[*kinds[run[0]][:2], len(run)].append(run)
    found = []
    for alike in grouped.values():
        first = alike[0][0]
        smoothing = [[trials[place].regularize.label_smoothing for place in run] for run in alike]
        found.append(
            Block(
                first,
                torch.tensor([orders.index(trials[run[0]].order) for run in alike]),
                [trials[run[0]].draws for run in alike],
                len(alike[0]),
                shares[first],
                trials[first].loss,
                torch.tensor(smoothing, dtype=torch.float64),
            )
        )
    return found


def train(block: Block, heads: StackedHeads, features: Tensor, batch: Batch, step: int) -> Tensor:
    """(S · T,), the loss of each trial of a block on its rows.

    Args:
        block: which.
        heads: of all blocks.
        features: (orders, B, D).
        batch: of the same rows, with the same first dimension.
        step: of the training, which decides the dropout.
    """
    width = len(block.orders)
    chosen = block.orders.to(features.device)
    own = (features, batch.labels, batch.label_probs, batch.weights, batch.index)
    everyone = block.orders.tolist() == list(range(len(features)))
    rows = [tensor if everyone else tensor[chosen] for tensor in own]
    masks = heads.masks(block.draws, block.shares, step, features.shape[1])
    params = {
        name: tensor[block.start : block.end].reshape(width, block.each, *tensor.shape[1:])
        for name, tensor in heads.params().items()
    }
    smoothing = block.smoothing.to(features.device, torch.float32)
    inner = vmap(_loss_of_one(heads, block.loss), in_dims=(0, 0, None, None))
    if width == 1:
        first = [tensor[0] for tensor in (smoothing, *rows, *masks)]
        first_params = {name: tensor[0] for name, tensor in params.items()}
        return inner(first_params, first[0], first[1:6], first[6:])
    return vmap(inner, in_dims=(0, 0, 0, 0))(params, smoothing, rows, masks).flatten()


def look(block: Block, heads: StackedHeads, features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (S · T, B, C) and losses (S · T,) of a block on rows that are the same for all, without dropout."""

    def one(params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        embedding, logits = heads.run(params, features)
        return logits, block.loss(Output(features, embedding, logits), batch)

    return vmap(one)({name: tensor[block.start : block.end] for name, tensor in heads.params().items()})


def _loss_of_one(heads: StackedHeads, loss: Any) -> Callable[..., Tensor]:
    """The training loss of one trial, as a function of tensors."""

    def one(params: dict[str, Tensor], smoothing: Tensor, rows: list[Tensor], masks: list[Tensor]) -> Tensor:
        features, labels, probs, weights, index = rows
        embedding, logits = heads.run(params, features, masks)
        aims = (1 - smoothing) * probs + smoothing / probs.shape[-1]
        return loss(Output(features, embedding, logits), Batch(features, labels, aims, weights, index))

    return one


def _loss(trial: Trial) -> str:
    return json.dumps(trial.config["loss"], sort_keys=True)
