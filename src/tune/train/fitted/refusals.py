"""What a run whose head is fitted at once cannot have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tune.data.options import separate
from tune.errors import ConfigError, Problem
from tune.losses.cross_entropy import CrossEntropy
from tune.losses.weighted import Weighted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tune.data.module import ImageData
    from tune.models.freeze import FreezePlan, Phase
    from tune.models.interface import FittedHead


def refuse_unfit(
    head: FittedHead,
    config: dict[str, Any],
    loss: Any,
    data: ImageData,
    plan: FreezePlan,
    phases: Sequence[Phase],
    where: tuple[str, int],
) -> None:
    """Refuse what the head would ignore, or cannot follow.

    Args:
        head: of the run.
        config: of the run.
        loss: of the run; weights that it gives to classes become weights of rows.
        data: of the run.
        plan: which layers train.
        phases: the plan, worked out.
        where: kind of device, and number of processes.

    Raises:
        ConfigError: with every reason.
    """
    problems = []
    if plan.norm == "train" or any(phase.trained - {"head"} for phase in phases):
        problems.append(Problem("freeze", "the head is fitted to what a frozen backbone says: freeze=deep"))
    if data.changes_pixels or data.mixes:
        problems.append(Problem("augment", "the head is fitted once, to images as they are: augment=none"))
    if separate(config["data"])[0].sampler != "shuffle":
        text = "has no effect: the head sees every training row once. For rare classes: loss=weighted"
        problems.append(Problem("data.sampler", text))
    if not isinstance(loss, CrossEntropy | Weighted):
        text = "has no effect on how the head is fitted. Take loss=cross_entropy, or loss=weighted to weigh classes"
        problems.append(Problem("loss", text))
    if not head.takes_weights and (isinstance(loss, Weighted) or data.table.weights is not None):
        key = "loss" if isinstance(loss, Weighted) else "data"
        problems.append(Problem(key, f"gives rows weights, and {head.about} takes none: take another head.name"))
    if where[0] == "xla" or where[1] > 1:
        problems.append(Problem("trainer", "the head is fitted in one process, not on a TPU: trainer=auto"))
    if problems:
        raise ConfigError(*problems)
