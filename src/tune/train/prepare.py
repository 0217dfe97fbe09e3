"""From the plain config to the parts of a run: data, network, freeze plan, loss, learner. Nothing is written here.

Whatever cannot run is refused here, before the run folder exists.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tune.config.build import build
from tune.data.module import ImageData
from tune.data.options import separate
from tune.data.seeds import keyed
from tune.data.splits import Parts, check, split_rows
from tune.data.table import Table
from tune.data.unreadable import drop_unreadable
from tune.errors import ConfigError, DataError, Problem
from tune.evaluate.loaded import without_source
from tune.features.contents import Contents
from tune.features.options import CacheOptions
from tune.losses.penalties import L1, L2
from tune.models.freeze import FreezePlan, Phase
from tune.models.interface import Head
from tune.models.network import Network
from tune.train.callbacks.loggers import require_package
from tune.train.devices.memory import keep_freed_memory
from tune.train.devices.precision import Precision, choose_precision
from tune.train.devices.trainer import device_type, world_size
from tune.train.frozen import FrozenPart, frozen_part
from tune.train.learner import Learner
from tune.train.regularize import Regularize
from tune.train.rows import read_rows


@dataclass
class Prepared:
    """A run that can start."""

    config: dict[str, Any]
    table: Table
    parts: Parts
    skipped: list[tuple[str, str]]
    data: ImageData
    network: Network
    plan: FreezePlan
    phases: list[Phase]
    learner: Learner
    device: str
    precision: Precision
    frozen: FrozenPart
    regularize: Regularize
    rank: int
    world: int
    facts: dict[str, Any] = field(default_factory=dict)  # kept by `record`

    @property
    def unchanged(self) -> frozenset[str]:
        """Names of the network's tensors that no phase of this run changes."""
        return unchanged(self.network, self.plan, self.phases)


def read_data(config: dict[str, Any], decode: bool = True) -> tuple[Table, Parts, list[tuple[str, str]], Contents]:
    """Read the labels, look at every image that was not looked at before, and split the rows.

    Args:
        config: the whole plain config.
        decode: whether every image is decoded once, to find the bad ones.

    Returns:
        The rows, their parts, (name, reason) of each image that was skipped, and what is known of the images' content.

    Raises:
        DataError: with every problem found.
    """
    table, split = read_rows(config["data"])
    contents = Contents(CacheOptions(**config["cache"]), table)
    skipped: list[tuple[str, str]] = []
    if decode:
        table, skipped = drop_unreadable(table, separate(config["data"])[0].unreadable, known=contents.readable())
        if skipped and (problems := check(table, split)):
            raise DataError(*problems)
        contents.note_readable(table)
    return table, split_rows(table, split), skipped, contents


def prepare(config: dict[str, Any], *, decode: bool = True) -> Prepared:
    """Build every part of a run.

    Raises:
        ConfigError: if the network, the data or the device do not fit what is asked for.
    """
    keep_freed_memory()
    require_package(config["logger"])
    rank, world = int(os.environ.get("LOCAL_RANK", 0)), world_size(config["trainer"])
    table, parts, skipped, contents = read_data(config, decode)
    device = device_type(config["trainer"])
    precision = choose_precision(config["precision"], device)
    regularize = Regularize(**config["regularize"])

    torch.manual_seed(config["seed"])  # a backbone without weights starts from the seed
    backbone = build(config["backbone"], output=config["output"])
    classes = len(table.classes)
    head = new_head(config, backbone.feature_dim, classes)
    network = Network(backbone, head)
    network.frozen_dtype = precision.frozen
    if device != "xla":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form

    options, _ = separate(config["data"])
    accumulate = config["trainer"].get("accumulate_grad_batches", 1)
    data = ImageData(
        table,
        parts,
        input_size=backbone.input.size,
        mean=backbone.input.mean,
        std=backbone.input.std,
        interpolation=backbone.input.interpolation,
        fit=options.fit,
        augment=build(config["augment"]),
        label_smoothing=regularize.label_smoothing,
        views=config["cache"].get("views"),
        batch_size=config["batch_size"],
        accumulate=accumulate,
        workers=options.workers,
        seed=config["seed"],
        rank=rank,
        world=world,
    )

    plan: FreezePlan = build(config["freeze"])
    phases = plan.phases(list(network.layers), config["epochs"])
    frozen = frozen_part(config, network, plan, phases, data, contents, precision, device, world)
    data.use(frozen)
    total_steps = config["epochs"] * data.steps_per_epoch
    learner = Learner(
        network,
        build(config["loss"], class_counts=data.class_counts, num_classes=classes, feature_dim=backbone.feature_dim),
        build(config["transfer"]),
        {
            name: kind(strength)
            for name, kind, strength in (("l1", L1, regularize.l1), ("l2", L2, regularize.l2))
            if strength
        },
        plan,
        phases,
        lr=config["lr"],
        weight_decay=regularize.weight_decay,
        make_optimizer=lambda groups: build(
            config["optimizer"], params=groups, lr=config["lr"], weight_decay=regularize.weight_decay
        ),
        make_schedule=lambda optimizer: build(
            config["scheduler"], optimizer=optimizer, total_steps=total_steps, steps_per_epoch=data.steps_per_epoch
        ),
        seed=config["seed"],
        autocast=precision.autocast,
        frozen=frozen,
        known=unchanged(network, plan, phases) if backbone.weights_digest else frozenset(),
    )
    refuse_blind_loss(learner.loss, data, regularize)
    learner.example_input_array = torch.zeros(1, 3, *backbone.input.size)
    learner.configure_optimizers()  # a wrong optimizer or schedule is a problem of the config, so it shows now
    learner.plateau = None
    if config["objective"] == "val/f1" and classes != 2:
        raise ConfigError("objective: val/f1 is for two classes; val/f1_macro is its mean over classes")
    return Prepared(
        config,
        table,
        parts,
        skipped,
        data,
        network,
        plan,
        phases,
        learner,
        device,
        precision,
        frozen,
        regularize,
        rank,
        world,
    )


def unchanged(network: Network, plan: FreezePlan, phases: list[Phase]) -> frozenset[str]:
    """Names of a network's tensors that no phase changes."""
    if plan.norm == "train":
        return frozenset()
    trained = frozenset().union(*(phase.trained for phase in phases))
    return frozenset(name for layer, names in network.layers.items() if layer not in trained for name in names)


def new_head(config: dict[str, Any], feature_dim: int, num_classes: int) -> Head:
    """The head that a config names, with first weights that follow from its seed alone."""
    dropout = Regularize(**config["regularize"]).dropout
    with keyed("head", config["seed"]):
        return build(config["head"], feature_dim=feature_dim, num_classes=num_classes, dropout=dropout)


def refuse_blind_loss(loss: Any, data: ImageData, regularize: Regularize) -> None:
    """Refuse a loss that some of the data's targets would not reach.

    Smoothing and mixing act through `batch.label_probs`; a loss that never reads it would ignore them silently.

    Raises:
        ConfigError: for such a loss.
    """
    asked = [
        name
        for name, is_on in (("regularize.label_smoothing", regularize.label_smoothing), ("augment", data.mixes))
        if is_on
    ]
    if asked and "label_probs" not in inspect.getsource(type(loss)):
        text = f"has no effect: {type(loss).__name__} reads batch.labels and not batch.label_probs"
        raise ConfigError(*(Problem(key, text) for key in asked))


def describe_network(prepared: Prepared, partial: bool) -> dict[str, Any]:
    """What `tune.load` needs beside the weights: the nodes of backbone and head, class names and the transform.

    Args:
        prepared: the run.
        partial: whether the weights file lacks what was frozen, so that the backbone's own weights are needed.
    """
    config, backbone = prepared.config, prepared.network.backbone
    return {
        "classes": prepared.table.classes,
        "backbone": config["backbone"] if partial else without_source(config["backbone"]),
        "head": config["head"],
        "feature_dim": backbone.feature_dim,
        "input": {
            "size": list(backbone.input.size),
            "mean": list(backbone.input.mean),
            "std": list(backbone.input.std),
            "interpolation": backbone.input.interpolation,
            "fit": prepared.data.fit,
        },
        "partial": partial,
        "output": str(Path(config["output"]).absolute()) if partial else "",
        "weights": {"source": backbone.weights_source, "digest": backbone.weights_digest},
    }
