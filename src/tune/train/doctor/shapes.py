"""Whether the parts of a run fit each other, without its data and without weights.

The backbone is built on torch's meta device, where a tensor has a shape and nothing in it; head and loss, which are
small, are real. What only the rows can tell (how many classes there are) is taken to be two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tune.batch import Batch
from tune.config import schema
from tune.config.build import build
from tune.config.signature.source import Found, find, inherits, signature
from tune.data.tasks.task import TaskOptions
from tune.errors import ConfigError, Problem
from tune.evaluate import retrieval
from tune.losses.fit import refuse_misfit
from tune.losses.interface import SeveralTerms, loss_terms
from tune.losses.penalties import penalties_of
from tune.losses.tasks import TaskLosses
from tune.models.freeze import FreezePlan, Phase, apply_phase
from tune.models.init import refuse_equal_units
from tune.models.interface import Backbone, FittedHead
from tune.models.network import Network
from tune.train.adapt.method import build_method
from tune.train.groups import parameter_groups
from tune.train.prepare import embedding_trains, new_head, new_loss
from tune.train.regularize import Regularize

CLASSES = 2
ROWS = 4
STEPS = 100
"""Per epoch, where the config names none."""

_WRONG = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
"""What a network or loss of somebody's own raises where shapes do not fit."""


class Fitting:
    """Looks at configs one after another; a backbone that several name is built once."""

    def __init__(self) -> None:
        self._known: dict[str, Backbone | ConfigError] = {}

    def problems(self, config: dict[str, Any]) -> list[Problem]:
        """What does not fit, of a whole checked config; empty where all does."""
        found: list[Problem] = []
        for problem in self._look(config):
            if problem not in found:
                found.append(problem)
        return found

    def _look(self, config: dict[str, Any]) -> Iterator[Problem]:
        try:
            backbone = self._backbone(config)
            transfer = build_method({**config, "transfer": without_weights(config["transfer"])[0]})
            network, loss = _network(config, backbone)
            plans = _plans(config["freeze"])
        except ConfigError as error:
            yield from error.problems
            return
        yield from _of(lambda: build(config["augment"]))
        for plan in plans:
            plan.keeps_head = transfer.keeps_head
            try:
                phases = plan.phases(list(network.layers), config["epochs"])
            except ConfigError as error:
                yield from error.problems
                continue
            yield from _of(lambda plan=plan, phases=phases: _enter(network, plan, phases))
            if len(plans) > 1:
                continue  # which of them it will be, the rows decide
            yield from _of(lambda phases=phases: _refuse(config, network, loss, transfer, phases))
            if isinstance(network.head, FittedHead):
                if any(phase.trained - {"head"} for phase in phases):
                    yield Problem("freeze", "the head is fitted to what a frozen backbone says: freeze=deep")
            else:
                yield from _of(
                    lambda plan=plan, phases=phases: _optimize(config, network, loss, transfer, plan, phases)
                )
        if not isinstance(network.head, FittedHead):
            yield from _step(config, network, loss)

    def _backbone(self, config: dict[str, Any]) -> Backbone:
        node, has_weights = without_weights(config["backbone"])
        key = str(node)
        if key not in self._known:
            try:
                self._known[key] = _on_meta(node, config)
            except ConfigError as error:
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, ConfigError):
            raise known
        known.weights_digest = "those of the run" if has_weights else ""
        return known


def without_weights(node: Any) -> tuple[Any, bool]:
    """A node in which every backbone has random weights, and whether one would have had others."""
    if not isinstance(node, dict):
        return node, False
    inner = {key: without_weights(value) for key, value in node.items()}
    plain, has_weights = {key: value for key, (value, _) in inner.items()}, any(has for _, has in inner.values())
    found = find(node["_target_"]) if isinstance(node.get("_target_"), str) else ""
    if isinstance(found, Found) and inherits(found, schema.BACKBONE) and "weights" in signature(found).parameters:
        weights = node.get("weights", signature(found).parameters["weights"].default_value)
        return {**plain, "weights": "none"}, has_weights or weights != "none"
    return plain, has_weights


def _on_meta(node: dict[str, Any], config: dict[str, Any]) -> Backbone:
    """The backbone without numbers, when it has turned images into features.

    Raises:
        ConfigError: if it cannot be built, or its features have another shape than it says.
    """
    try:
        with torch.device("meta"), torch.no_grad():
            backbone: Backbone = build(node, output=config["output"])
            features = backbone.eval()(torch.zeros(ROWS, 3, *backbone.input.size))
    except _WRONG as error:
        raise ConfigError(Problem("backbone", f"cannot take an image: {_first(error)}")) from error
    if features.shape != (ROWS, backbone.feature_dim):
        shape = tuple(features.shape)
        text = f"gives features of shape {shape}, where its feature_dim asks for ({ROWS}, {backbone.feature_dim})"
        raise ConfigError(Problem("backbone", text))
    return backbone.train()


def _network(config: dict[str, Any], backbone: Backbone) -> tuple[Network, Any]:
    """The network, and the loss with those of further tasks.

    Raises:
        ConfigError: if head or loss cannot be built.
    """
    tasks = {name: TaskOptions(**task) for name, task in config["data"].get("tasks", {}).items()}
    outputs = {name: 1 if task.kind == "regression" else CLASSES for name, task in tasks.items()}
    head = new_head(config, backbone.feature_dim, CLASSES, outputs)
    refuse_equal_units(head)
    try:
        network = Network(backbone, head)
        loss = new_loss(config, network, [ROWS // CLASSES] * CLASSES)
    except _WRONG as error:
        text = f"does not take {backbone.feature_dim} features: {_first(error)}"
        raise ConfigError(Problem("head", text)) from error
    kinds = {name: (task.kind, task.weight) for name, task in tasks.items()}
    return network, TaskLosses(loss, kinds, config["head"].get("weights") == "uncertainty") if tasks else loss


def _plans(node: dict[str, Any]) -> list[FreezePlan]:
    """The plan, or the three that freeze=auto chooses from."""
    plan = build(node)
    return [plan] if isinstance(plan, FreezePlan) else [build(node[name]) for name in ("deep", "mid", "full")]


def _enter(network: Network, plan: FreezePlan, phases: list[Phase]) -> None:
    try:
        for phase in phases:
            apply_phase(network, phase, plan.norm)
    finally:
        network.requires_grad_(True)


def _refuse(config: dict[str, Any], network: Network, loss: Any, transfer: Any, phases: list[Phase]) -> None:
    """What the run itself refuses of loss, penalties and objective.

    Raises:
        ConfigError: with the reason.
    """
    regularize = Regularize(**config["regularize"])
    trains = any(phase.trained - {"head"} for phase in phases)
    penalties_of(regularize.l1, regularize.l2, regularize.l2_sp, network, trains)
    accumulate = config["trainer"].get("accumulate_grad_batches", 1)
    if problems := regularize.problems(config["epochs"], accumulate, config["precision"]):
        raise ConfigError(*problems)
    refuse_misfit(
        loss.label if isinstance(loss, TaskLosses) else loss,
        smoothing=regularize.label_smoothing,
        mixes=build(config["augment"]).mixes,
        embedding_trains=embedding_trains(network, phases),
        transfer=transfer if transfer.shapes_embedding else None,
    )
    objective = config["objective"].removeprefix("val/")
    measures_retrieval = isinstance(loss, SeveralTerms) and loss.shapes_embedding
    if objective in retrieval.METRICS and not measures_retrieval:
        raise ConfigError(f"objective: val/{objective} is measured with a loss that shapes the embedding: loss=triplet")


def _optimize(
    config: dict[str, Any], network: Network, loss: Any, transfer: Any, plan: FreezePlan, phases: list[Phase]
) -> None:
    """Build optimizer and schedule as the run would.

    Raises:
        ConfigError: if they do not fit the network, or the number of epochs.
    """
    lr, decay = 1.0 if config["lr"] == "auto" else config["lr"], Regularize(**config["regularize"]).weight_decay
    groups = parameter_groups(network, {"loss": loss, "transfer": transfer}, plan, phases, lr, decay)
    optimizer = build(config["optimizer"], params=groups, lr=lr, weight_decay=decay)
    steps = config["epoch_steps"] or STEPS
    build(config["scheduler"], optimizer=optimizer, total_steps=config["epochs"] * steps, steps_per_epoch=steps)


def _step(config: dict[str, Any], network: Network, loss: Any) -> Iterator[Problem]:
    """Head and loss on a batch of random features."""
    features = torch.randn(ROWS, network.backbone.feature_dim, generator=torch.Generator().manual_seed(0))
    try:
        output = network.judge(features)
    except _WRONG as error:
        yield Problem("head", f"does not take {network.backbone.feature_dim} features: {_first(error)}")
        return
    if output.logits.shape != (ROWS, CLASSES):
        shape = tuple(output.logits.shape)
        yield Problem("head", f"gives logits of shape {shape} for {ROWS} rows and {CLASSES} classes")
        return
    labels = torch.arange(ROWS) % CLASSES
    aims = {name: torch.zeros(ROWS, *said.shape[1:]) for name, said in output.tasks.items()}
    for name, task in config["data"].get("tasks", {}).items():
        aims[name] = aims[name] if task["kind"] == "multi_label" else torch.zeros(ROWS)
    images, probs = torch.zeros(ROWS, 3, *network.backbone.input.size), torch.eye(CLASSES)[labels]
    batch = Batch(images, labels, probs, torch.ones(ROWS), torch.arange(ROWS), tasks=aims)
    try:
        terms = loss_terms(loss, output, batch)
    except _WRONG as error:
        yield Problem("loss", f"cannot judge {ROWS} rows of {CLASSES} classes: {_first(error)}")
        return
    for name, value in terms.items():
        if value.ndim or not bool(torch.isfinite(value)):
            what = f"of shape {tuple(value.shape)}" if value.ndim else f"{float(value.detach())}"
            yield Problem("loss", f"its term {name!r} is {what} on random features; it must be one finite number")


def _of(act: Any) -> Iterator[Problem]:
    """The problems that a call raises."""
    try:
        act()
    except ConfigError as error:
        yield from error.problems


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
