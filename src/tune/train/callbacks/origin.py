"""Where a number that is not finite came from: the layer, the batch and the rows, as a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tune.train.probe.lowered import lowered

if TYPE_CHECKING:
    from collections.abc import Callable

    from tune.batch import Batch
    from tune.models.network import Network

_ROWS = 3
"""Rows that are named."""


@dataclass(frozen=True)
class Place:
    """A batch of the training.

    Args:
        epoch: counted from 0.
        step: steps of the optimizer before it.
        number: of the batch in its epoch, from 0.
        batches: of each domain.
    """

    epoch: int
    step: int
    number: int
    batches: dict[str, Batch]


def told(trainer: Any, learner: Any, place: Place, is_loss_finite: bool, bad: list[str]) -> str:
    """Why the run ends.

    Args:
        trainer: Lightning's.
        learner: what it trains.
        place: the batch that gave NaN or infinite numbers.
        is_loss_finite: whether its loss is fine.
        bad: names of the parameters whose gradient is not.
    """
    what = "gradient" if is_loss_finite else "loss"
    start = f"the {what} is no longer a finite number (epoch {place.epoch + 1}, step {place.step + 1}"
    names = trainer.datamodule.table.names
    broken = {domain: ~finite_rows(batch.images) for domain, batch in place.batches.items()}
    if any(bool(rows.any()) for rows in broken.values()):
        is_image = all(batch.images.ndim == 4 for batch in place.batches.values())
        whose = "the images" if is_image else "what the frozen layers say"
        rows = _named(place.batches, names, broken)
        return f"{start}, batch {place.number + 1}): {whose} of {rows} is not finite. Leave these rows out"
    terms = [name for name, total in learner.sums.items() if not bool(torch.isfinite(total))]
    first = first_not_finite(trainer, learner, place) if can_run_again(learner) else None
    chosen = None
    if first is not None:
        layer, module, output = first
        why = f"it begins in layer {layer}, in what {module} gives"
        (domain, batch), *others = place.batches.items()
        if not others and output.shape[:1] == batch.index.shape:
            chosen = {domain: ~finite_rows(output)}
    elif is_loss_finite:
        why = f"on the way back from the loss, which is finite, it begins in layer {_nearest_to_loss(learner, bad)}"
    elif terms and can_run_again(learner):
        why = f"every layer gives finite numbers, but the term {terms[0]} is none"
    else:
        why = f"so is the gradient of layer {_nearest_to_loss(learner, bad)}" if bad else "the gradients are finite"
    rows = _named(place.batches, names, chosen)
    rate = lowered(learner.base_lr, trainer.optimizers[0])
    advice = f"Try lr={rate:.2g}, or trainer.gradient_clip_val=1"
    return f"{start}, batch {place.number + 1} with {rows}): {why}. {advice}"


def can_run_again(learner: Any) -> bool:
    """Whether the weights are still such that a pass shows where it began; a device has taken a step since."""
    return learner.device.type == "cpu" or all(bool(p.isfinite().all()) for p in learner.parameters())


def first_not_finite(trainer: Any, learner: Any, place: Place) -> tuple[str, str, Tensor] | None:
    """Run a batch again, as it was; the first output that is not finite.

    Returns:
        Layer, name of the module and what it gave; None if every module gives finite numbers.
    """
    network = learner.network
    layers, found, last = layers_of_modules(network), [], [next(iter(network.layers))]

    def look(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            last[0] = layers.get(name, last[0])
            if not found:
                found.extend((last[0], name, each) for each in _tensors(output) if not bool(each.isfinite().all()))

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in network.named_modules() if name]
    try:
        with trainer.precision_plugin.train_step_context():
            learner.on_train_batch_start(place.batches, place.number)  # the same draws
            learner.training_step(place.batches, place.number)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def layers_of_modules(network: Network) -> dict[str, str]:
    """Layer of each module that holds tensors of one layer alone, by the module's name."""
    owners: dict[str, set[str]] = {}
    for layer, names in network.layers.items():
        for name in names:
            while name := name.rpartition(".")[0]:
                owners.setdefault(name, set()).add(layer)
    return {name: next(iter(layers)) for name, layers in owners.items() if len(layers) == 1}


def layers_of_tensors(learner: Any) -> dict[str, str]:
    """Layer of each of a learner's parameters, by name; "loss" and "transfer" for what is theirs."""
    layers = {f"network.{name}": layer for layer, names in learner.network.layers.items() for name in names}
    return {name: layers.get(name, name.partition(".")[0]) for name, _ in learner.named_parameters()}


def finite_rows(values: Tensor) -> Tensor:
    """(B,) whether all numbers of a row are finite."""
    return values.detach().isfinite().flatten(1).all(1) if values.ndim > 1 else values.detach().isfinite()


def _nearest_to_loss(learner: Any, tensors: list[str]) -> str:
    order, layers = ["transfer", *learner.network.layers, "loss"], layers_of_tensors(learner)
    return max((layers[name] for name in tensors), key=order.index)


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output.detach()]
    return [each for part in output for each in _tensors(part)] if isinstance(output, (tuple, list)) else []


def _named(batches: dict[str, Batch], names: list[str], chosen: dict[str, Tensor] | None) -> str:
    """The first rows of a batch, or of those chosen, by name."""
    rows = [
        int(row)
        for domain, batch in batches.items()
        for row in (batch.index if chosen is None else batch.index[chosen[domain]]).tolist()
    ]
    more = f" and {len(rows) - _ROWS} more" if len(rows) > _ROWS else ""
    return ", ".join(names[row] for row in rows[:_ROWS]) + more
