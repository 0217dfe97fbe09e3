"""The average of the weights of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import load_file

from tune.errors import ConfigError, Problem
from tune.models.weights_file import WeightsFile, describe
from tune.train.adapt.sight import LearnerSight
from tune.train.callbacks.loggers import silent_lightning
from tune.train.devices.trainer import build_trainer
from tune.train.ensemble.members import Member, Predicted
from tune.train.objective import is_better, is_maximized
from tune.train.prepare import Prepared, prepare
from tune.train.record import describe_network

if TYPE_CHECKING:
    from torch import Tensor


def cook(members: Sequence[Member], folder: Path) -> tuple[Predicted, Predicted | None, list[Member]]:
    """A greedy soup: from the best member on, each is added whose weights do not make the average worse.

    Wortsman et al. 2022, "Model soups", recipe 1. The same; the value is the objective on the validation rows, measured
    as in training: over two domains on the rows of both, as far as their labels are known.

    Args:
        members: of one network, trained from the same first weights or on a frozen backbone.
        folder: gets model.safetensors and model.yaml of the soup.

    Returns:
        What the soup says of validation and test rows, and the members in it.

    Raises:
        ConfigError: if the networks differ, or the validation rows do.
    """
    descriptions = [yaml.safe_load((member.run_dir / "model.yaml").read_text()) for member in members]
    prepared = prepare(members[0].config, decode=False)
    # A run may have kept what is frozen, or not; it is the same in all.
    weights = [
        {
            name: tensor
            for name, tensor in load_file(member.run_dir / "model.safetensors").items()
            if name not in prepared.unchanged
        }
        for member in members
    ]
    shapes = [{name: tensor.shape for name, tensor in own.items()} for own in weights]
    for member, shape, description in zip(members, shapes, descriptions, strict=True):
        if shape != shapes[0] or any(description[key] != descriptions[0][key] for key in ("head", "weights", "input")):
            text = f"is another network than {members[0].id}; a soup averages the weights of one"
            raise ConfigError(Problem(member.id, text))
        if not torch.equal(member.val.index, members[0].val.index):
            raise ConfigError(Problem(member.id, f"has other validation rows than {members[0].id}"))
    objective = members[0].record["objective"]
    order = sorted(range(len(members)), key=lambda number: _rank(members[number], objective))
    prepared.frozen.fill(lambda line: None)
    prepared.learner.sight = sight = LearnerSight(prepared)
    if prepared.learner.hides_labels:  # a method may weigh the rows of two domains, also those that validate
        prepared.learner.transfer.prepare(sight)
    kept, best = order[:1], _value(prepared, weights, order[:1], objective)
    for number in order[1:]:
        value = _value(prepared, weights, [*kept, number], objective)
        if not is_better(objective, best, value):
            kept, best = [*kept, number], value
    _take(prepared, weights, kept)
    prepared.learner.transfer.finish(prepared.network, sight)
    WeightsFile(folder).write(prepared.network)
    describe(folder, describe_network(prepared, partial=False))
    val, _ = _judged(prepared, "val")
    test = _judged(prepared, "test")[0] if len(prepared.parts.test) else None
    return val, test, [members[number] for number in kept]


def _rank(member: Member, objective: str) -> float:
    value = float(member.record["metrics"][objective])
    return -value if is_maximized(objective) else value


def _take(prepared: Prepared, weights: list[dict[str, Tensor]], chosen: list[int]) -> None:
    """Put the average of some members' weights into the network; whole numbers are those of the first."""
    mean = {
        name: torch.stack([weights[number][name].double() for number in chosen]).mean(dim=0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in weights[chosen[0]].items()
    }
    prepared.network.load_state_dict(mean, strict=False)


def _value(prepared: Prepared, weights: list[dict[str, Tensor]], chosen: list[int], objective: str) -> float:
    _take(prepared, weights, chosen)
    return _judged(prepared, "val")[1][objective]


def _judged(prepared: Prepared, part: str) -> tuple[Predicted, dict[str, float]]:
    """What the network says of a part, and its metrics."""
    accelerator = {"cuda": "gpu", "xla": "tpu"}.get(prepared.device, prepared.device)
    prepared.learner.phase = prepared.phases[-1]
    with silent_lightning():
        trainer: Any = build_trainer(
            {**prepared.config["trainer"], "accelerator": accelerator},
            epochs=1,
            precision=prepared.precision.trainer,
            callbacks=[],
            loggers=[],
            root=Path(prepared.config["output"]),
        )
        look = trainer.validate if part == "val" else trainer.test
        look(prepared.learner, dataloaders=prepared.data.eval_rows(part), verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return Predicted(*prepared.learner.measured[part]), metrics
