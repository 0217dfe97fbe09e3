"""From the plain config to the parts of a run: data, network, freeze plan, loss, learner. Nothing is written here.

Whatever cannot run is refused here, before the run folder exists.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tune.config.across.domains import closes_source, starts_from_run
from tune.config.build import build
from tune.data.loading.orders import labelled_counts
from tune.data.module import ImageData
from tune.data.options import separate
from tune.data.seeds import keyed
from tune.data.splits import Parts
from tune.data.table import Table
from tune.data.tasks.columns import standardised
from tune.data.unreadable import drop_unreadable
from tune.errors import ConfigError
from tune.evaluate import retrieval
from tune.evaluate.threshold import refuse_threshold
from tune.features.contents import Contents
from tune.features.options import CacheOptions
from tune.losses.fit import refuse_misfit
from tune.losses.interface import SeveralTerms
from tune.losses.penalties import penalties_of
from tune.losses.tasks import TaskLosses
from tune.models.freeze import FreezePlan, Phase
from tune.models.init import Init, refuse_equal_units
from tune.models.interface import FittedHead, Head
from tune.models.network import Network
from tune.train.adapt.beside import as_trained, take_head
from tune.train.adapt.method import build_method
from tune.train.callbacks.loggers import require_package
from tune.train.choose.auto import choose_freeze
from tune.train.choose.rule import Choice
from tune.train.devices.memory import keep_freed_memory
from tune.train.devices.precision import Precision, choose_precision
from tune.train.devices.trainer import device_type, world_size
from tune.train.finished.attacked import refuse_attack
from tune.train.fitted.refusals import refuse_unfit
from tune.train.frozen import FrozenPart, frozen_part
from tune.train.learner import Learner
from tune.train.probe.range_test import Suggestion
from tune.train.probe.rate import rate_of
from tune.train.regularize import Regularize
from tune.train.rows import data_node, read_rows


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
    contents: Contents
    choice: Choice | None = None  # of freeze=auto
    rate: Suggestion | None = None  # of lr=auto
    facts: dict[str, Any] = field(default_factory=dict)  # kept by `record`

    @property
    def unchanged(self) -> frozenset[str]:
        """Names of the network's tensors that no phase of this run changes."""
        return unchanged(self.network, self.plan, self.phases)


def read_data(config: dict[str, Any], decode: bool = True) -> tuple[Table, Parts, list[tuple[str, str]], Contents]:
    """Read the labels, look at every image that was not looked at before, and split the rows.

    Args:
        config: the whole plain config.
        decode: whether every image is decoded once, to find the bad ones; they must be known anyway where they are left
            out.

    Returns:
        The rows, their parts, (name, reason) of each image that was skipped, and what is known of the images' content.

    Raises:
        DataError: with every problem found.
    """
    table, divide = read_rows(data_node(config))
    contents = Contents(CacheOptions(**config["cache"]), table)
    skipped: list[tuple[str, str]] = []
    mode = separate(config["data"])[0].unreadable
    if decode or mode == "skip":
        table, skipped = drop_unreadable(table, mode, known=contents.readable())
        contents.note_readable(table)
    if closes_source(config):
        table = as_trained(table, config)
    table, parts = divide(table)
    return standardised(table, parts.train), parts, skipped, contents


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
    refuse_threshold(config["threshold"], classes)
    refuse_attack(config, backbone, table, parts)
    init: Init = build(config["init"])
    if not backbone.weights_digest:
        init.backbone(backbone)
        refuse_equal_units(backbone)
    outputs = {name: labels.task.num_outputs for name, labels in table.tasks.items()}
    transfer = build_method(config)
    head = new_head(config, backbone.feature_dim, classes, outputs)
    if transfer.keeps_head and starts_from_run(config):  # in a dry run the source may not be learned yet
        take_head(head, config)
    network = Network(backbone, head, aligned=transfer.aligns)
    refuse_equal_units(network.head)
    network.frozen_dtype = precision.frozen
    if device != "xla":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form

    options, _ = separate(config["data"])
    accumulate = config["trainer"].get("accumulate_grad_batches", 1)
    loss = new_loss(config, network, labelled_counts(table, parts))
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
        takes_target=transfer.takes_target,
        sampler=options.sampler,
        rows_per_class=loss.rows_per_class if isinstance(loss, SeveralTerms) else 0,
        bootstrap=options.bootstrap,
        batch_size=config["batch_size"],
        accumulate=accumulate,
        epoch_steps=config["epoch_steps"],
        workers=options.workers,
        seed=config["seed"],
        rank=rank,
        world=world,
    )

    tasks = {name: (labels.task.kind, labels.task.weight) for name, labels in table.tasks.items()}
    whole = TaskLosses(loss, tasks, config["head"].get("weights") == "uncertainty") if tasks else loss
    with keyed("transfer", config["seed"]):
        transfer.refuse(network, whole, data)
    config, choice = choose_freeze(config, network, data, contents, precision, device)
    plan: FreezePlan = build(config["freeze"])
    plan.keeps_head = transfer.keeps_head
    phases = plan.phases(list(network.layers), config["epochs"])
    precision = precision.of_run(any(network.layers.keys() - phase.trained for phase in phases))
    frozen = frozen_part(config, network, plan, phases, data, contents, precision, device, world)
    data.use(frozen)
    if problems := regularize.problems(config["epochs"], accumulate, precision.trainer):
        raise ConfigError(*problems)
    total_steps = config["epochs"] * data.steps_per_epoch
    learner = Learner(
        network,
        whole,
        transfer,
        penalties_of(
            regularize.l1, regularize.l2, regularize.l2_sp, network, any(p.trained - {"head"} for p in phases)
        ),
        plan,
        phases,
        lr=rate_of(config),
        weight_decay=regularize.weight_decay,
        make_optimizer=lambda groups: build(
            config["optimizer"], params=groups, lr=rate_of(config), weight_decay=regularize.weight_decay
        ),
        make_schedule=lambda optimizer: build(
            config["scheduler"], optimizer=optimizer, total_steps=total_steps, steps_per_epoch=data.steps_per_epoch
        ),
        seed=config["seed"],
        sam=regularize.sam,
        autocast=precision.autocast,
        frozen=frozen,
        tasks=table.tasks,
        hides_labels=table.known is not None,
        known=unchanged(network, plan, phases) if backbone.weights_digest else frozenset(),
    )
    refuse_misfit(
        loss,
        smoothing=regularize.label_smoothing,
        mixes=data.mixes,
        embedding_trains=embedding_trains(network, phases),
        transfer=transfer if transfer.shapes_embedding else None,
    )
    learner.example_input_array = torch.zeros(1, 3, *backbone.input.size)
    if isinstance(network.head, FittedHead):
        refuse_unfit(network.head, config, loss, data, plan, phases, (device, world))
    else:
        _try_optimizer(learner, data, len(parts.train))
    objective = config["objective"].removeprefix("val/")
    task, _, metric = objective.rpartition("/")
    if metric == "f1" and (len(table.tasks[task].task.classes) if task else classes) != 2:
        raise ConfigError(
            f"objective: val/{objective} is for two classes; val/{objective}_macro is its mean over classes"
        )
    if objective in retrieval.METRICS and not learner.measures_retrieval:
        raise ConfigError(f"objective: val/{objective} is measured with a loss that shapes the embedding: loss=triplet")
    asked = (config, table, parts, skipped, data, network, plan, phases)
    return Prepared(*asked, learner, device, precision, frozen, regularize, rank, world, contents, choice)


def _try_optimizer(learner: Learner, data: ImageData, rows: int) -> None:
    """What is wrong with the optimizer is a problem of the config, so it shows now."""
    optimizer = learner.configure_optimizers()
    if isinstance(optimizer, dict):
        optimizer = optimizer["optimizer"]
    if isinstance(optimizer, torch.optim.LBFGS) and data.batches_per_pass > 1:
        raise ConfigError(f"batch_size: lbfgs needs all rows in each step: batch_size={rows} or more.")
    learner.plateau = None


def unchanged(network: Network, plan: FreezePlan, phases: list[Phase]) -> frozenset[str]:
    """Names of a network's tensors that no phase changes."""
    if plan.norm == "train":
        return frozenset()
    trained = frozenset().union(*(phase.trained for phase in phases))
    return frozenset(name for layer, names in network.layers.items() if layer not in trained for name in names)


def new_head(config: dict[str, Any], feature_dim: int, num_classes: int, tasks: dict[str, int] | None = None) -> Head:
    """The head that a config names, with first weights that follow from its seed alone."""
    facts = {"feature_dim": feature_dim, "num_classes": num_classes, "tasks": tasks or {}}
    with keyed("head", config["seed"]):
        head = build(config["head"], **facts, dropout=Regularize(**config["regularize"]).dropout)
        build(config["init"]).head(head)
        return head


def new_loss(config: dict[str, Any], network: Network, class_counts: list[int]) -> Any:
    """The loss that a config names."""
    return build(
        config["loss"],
        class_counts=class_counts,
        num_classes=len(class_counts),
        feature_dim=network.backbone.feature_dim,
        embedding_dim=network.embedding_dim,
    )


def embedding_trains(network: Network, phases: list[Phase]) -> bool:
    """Whether anything in front of the last linear layer trains in some phase."""
    if any(phase.trained - {"head"} for phase in phases):
        return True
    with torch.enable_grad():
        return _embedding(network).requires_grad and any("head" in phase.trained for phase in phases)


def _embedding(network: Network) -> Tensor:
    """(2, E) of rows of zeros."""
    network.head.eval()
    weight = next(network.head.parameters(), torch.zeros(()))
    embedding, _ = network.head(weight.new_zeros(2, network.backbone.feature_dim))
    network.head.train()
    return embedding
