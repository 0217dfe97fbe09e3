"""Top-level keys of a run, and what is known about groups beyond the signatures they name.

The classes here are read, not built: their annotations are the types of the keys. Values stand in conf/run.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tune.ranges import Range


@dataclass(frozen=True)
class Sweep:
    """What an experiment says about running it many times.

    Args:
        params: key to values, as on the command line (`1e-4,1e-3`, `range(0,5)`) or as a list.
        cases: name to words of the command line that belong together (`[freeze=full, lr=1e-4]`); crossed with `params`.
        jobs: trials that run at once.
        fuse: whether trials that differ only behind the frozen network train as one.
        keep: of which trials the weights stay: ``all`` (of each those that trained, of the best the whole network),
            the ``best`` alone, or ``none``. Results and predictions always stay.
    """

    params: dict[str, Any]
    cases: dict[str, list[str]]
    jobs: Annotated[int, Range("[1, 1024]")]
    fuse: bool
    keep: Literal["all", "best", "none"]


@dataclass(frozen=True)
class Expected:
    """What an experiment gave when it was measured; a test reads it.

    Args:
        metric: name of a metric, as `test/accuracy`.
        value: what it was.
        within: how far a repetition may be from it.
        minutes: how long it took.
    """

    metric: str
    value: float
    within: Annotated[float, Range("[0, inf)")]
    minutes: Annotated[float, Range("(0, inf)")]


@dataclass(frozen=True)
class Evaluate:
    """What is measured when the training is over, beside the test part as it is.

    Args:
        attack: images changed so that the run is wrong: by one step along the gradient of its loss (``fgsm``), by
            several (``pgd``), or, without looking at the run, by several away from what the public network it started
            from sees in them (``teacher``).
        eps: largest changes of a pixel, in units of 1/255.
        steps: of pgd and teacher; each is 2.5 eps / steps long.
        rows: number of test rows that are attacked, of each class as many as it has there; all of them by default.
        teacher: weights of the public network, as `backbone.weights`; by default those that the run started from.
        tta: also the mean over each test image and its flips, as the run saw them in training.
        calibrate: also a temperature, fitted to validation rows, and what it makes of the test rows' calibration.
    """

    attack: Literal["fgsm", "pgd", "teacher"] | None = None
    eps: list[Annotated[float, Range("(0, 255]")]] = field(default_factory=lambda: [2.0, 4.0, 8.0])
    steps: Annotated[int, Range("[1, 1000]")] = 5
    rows: Annotated[int, Range("[1, inf)")] | None = None
    teacher: str | None = None
    tta: bool = False
    calibrate: bool = False


@dataclass(frozen=True)
class Run:
    """The keys of a run that belong to no group."""

    name: str | None
    seed: Annotated[int, Range("[0, 4294967295]")]
    lr: Annotated[float, Range("(0, inf)")] | Literal["auto"]
    batch_size: Annotated[int, Range("[1, inf)")]
    epochs: Annotated[int, Range("[1, inf)")]
    epoch_steps: Annotated[int, Range("[1, inf)")] | None
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]
    compile: Literal["auto", "always", "never"]
    output: str
    objective: str
    monitor: bool
    pictures: bool
    guard: bool
    threshold: Literal["accuracy", "balanced_accuracy", "f1"] | Annotated[float, Range("(0, 1)")] | None
    evaluate: Evaluate
    stages: list[Any]
    sweep: Sweep
    expected: Expected | None


RUN = "tune.config.schema.Run"
SHARED = {
    "data": "tune.data.options.DataOptions",
    "data.source": "tune.data.domains.side.Side",
    "data.target": "tune.data.domains.side.Side",
}
"""Nodes that take keys besides those of the class they name, and the dataclass of these keys."""

BACKBONE = "tune.models.interface.Backbone"
"""What every backbone inherits."""

WITHOUT_TARGET = {
    "cache": "tune.features.options.CacheOptions",
    "ensemble": "tune.config.across.repeats.EnsembleOptions",
    "regularize": "tune.train.regularize.Regularize",
}
"""Groups that are plain values, and the dataclass that types them."""

MAY_BE_EMPTY = ("logger",)
"""Groups with an option that names no class because it is always on."""

METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "auroc",
    "loss",
    "recall_at_1",
    "recall_at_5",
    "map",
    "infomax",
)

TASK_METRICS = {
    "classification": ("accuracy", "balanced_accuracy", "f1", "f1_macro", "auroc", "loss"),
    "multi_label": ("accuracy", "exact_match", "f1_macro", "f1_micro", "auroc", "loss"),
    "regression": ("mae", "rmse", "r2", "loss"),
}
"""Of each task in `data.tasks`, by its kind."""

_FACT = "is found out by the run itself: leave it out"
_WEIGHT_DECAY = "belongs to regularize: set regularize.weight_decay"
FACTS: dict[str, str] = {
    "num_classes": _FACT,
    "feature_dim": _FACT,
    "embedding_dim": _FACT,
    "class_counts": _FACT,
    "total_steps": _FACT,
    "input_size": _FACT,
}
"""Arguments that are never keys of a YAML, with what to do instead."""

RESERVED: dict[str, dict[str, str]] = {
    "backbone": {"output": "is a key of the run: set output"},
    "head": {"dropout": "belongs to regularize: set regularize.dropout", "tasks": "belong to the data: set data.tasks"},
    "freeze": {"chosen": "is set by the run. To decide by yourself: freeze=deep, freeze=mid or freeze=full"},
    "optimizer": {"params": _FACT, "lr": "is a key of the run: set lr", "weight_decay": _WEIGHT_DECAY},
    "scheduler": {"optimizer": _FACT, "steps_per_epoch": _FACT},
    "transfer": {"loss": "is a group of its own: choose with loss=", "output": "is a key of the run: set output"},
    "logger": {"save_dir": "is the run folder", "name": "is the run folder", "version": "is the run folder"},
    "trainer": {
        "max_epochs": "is a key of the run: set epochs",
        "min_epochs": "is not used: set epochs, or regularize.early_stopping=0",
        "max_steps": "is not used: set epochs",
        "min_steps": "is not used: set epochs",
        "max_time": "is not used: use --time-limit",
        "precision": "is a key of the run: set precision",
        "callbacks": "are chosen by the run: see regularize.early_stopping",
        "logger": "is a group of its own: choose with logger=",
        "default_root_dir": "is the run folder: set output",
        "enable_progress_bar": "is decided by the terminal",
        "enable_checkpointing": "is always on: the run keeps best and last",
        "enable_model_summary": "is replaced by the table of layers",
        "num_sanity_val_steps": "is always 0",
        "use_distributed_sampler": "is always off: the data module shares the rows out",
        "reload_dataloaders_every_n_epochs": "is always 0",
        "inference_mode": "is decided by the run",
        "barebones": "would switch the record of the run off",
        "fast_dev_run": "would switch the record of the run off: set epochs=1 and trainer.limit_train_batches",
        "overfit_batches": "would validate on training rows: set data.split.fraction",
        "check_val_every_n_epoch": "is always 1: set epoch_steps",
        "val_check_interval": "is always one epoch: set epoch_steps",
        "model_registry": "is not used",
    },
}


def reserved(group: str) -> dict[str, str]:
    """Arguments that no YAML of a group may set, each with what to do instead."""
    return {**facts(group), **RESERVED.get(group, {})}


def facts(group: str) -> dict[str, str]:
    """Those of them that a node inside a YAML of the group may not set either.

    The backbone decides on the size of its input; to everyone else it is a fact.
    """
    return {name: advice for name, advice in FACTS.items() if (group, name) != ("backbone", "input_size")}
