"""Which trials of a sweep can train as one, read from their configs. Torch-free: the driver asks."""

from __future__ import annotations

import json
from typing import Any

from tune.config.across.domains import is_domains
from tune.config.across.fitted import is_fitted

_FREE = frozenset({"lr", "seed", "epochs", "regularize", "scheduler", "loss", "optimizer", "threshold"})
"""Keys in which the trials of a group may differ."""

_ELSEWHERE = frozenset(
    {"name", "output", "logger", "expected", "sweep", "ensemble", "guard", "stages", "monitor", "pictures"}
)
"""Keys that no number depends on."""

_NODES = frozenset({"data", "backbone", "head", "init", "freeze", "augment", "cache", "trainer", "transfer"})
_SAME = _NODES | {"batch_size", "epoch_steps", "precision", "compile", "objective", "evaluate"}
"""Keys in which they agree."""

_VECTORS = frozenset({"momentum", "nesterov", "betas", "eps", "alpha", "lr_decay", "initial_accumulator_value"})
"""Keys of an optimizer that are one number per trial; in all others the trials of a group agree."""

_ALONE = frozenset({"l2_sp", "sam", "ema", "swa"})
"""Regularizers that a trial trains alone with."""

_SGD = "tune.train.optim.sgd"
_OPTIMIZERS = frozenset({_SGD, *(f"tune.train.optim.{name}" for name in ("adagrad", "rmsprop", "adam", "adamw"))})


def fuse_key(config: dict[str, Any]) -> str | None:
    """What trials that train as one have in common: equal keys, one group. None: this trial trains alone.

    Args:
        config: the composed and checked config of a trial.
    """
    if not _can_fuse(config):
        return None
    shared = {key: value for key, value in config.items() if key in _SAME}
    shared["data"] = {key: value for key, value in config["data"].items() if key not in ("workers", "bootstrap")}
    shared["optimizer"] = {key: value for key, value in config["optimizer"].items() if key not in _VECTORS}
    if _changes(config["augment"]) or not _has_weights(config["backbone"]):
        shared["seed"] = config["seed"]  # the views of an image, or the frozen weights, follow from it
    if is_member(config):
        shared |= {"bootstrap": config["data"].get("bootstrap")} | {key: config[key] for key in _FREE}
    return json.dumps(shared, sort_keys=True)


def is_member(config: dict[str, Any]) -> bool:
    """Whether it is a boosted member, which is trained behind those before it and never alone."""
    return config.get("ensemble", {}).get("member") is not None


def _can_fuse(config: dict[str, Any]) -> bool:
    """Whether nothing but the head trains, by plain steps, on what a cache can hold."""
    nodes = _NODES | {"optimizer", "sweep", "evaluate"}
    if not all(isinstance(config.get(node), dict) for node in nodes) or config.keys() - _FREE - _ELSEWHERE - _SAME:
        return False
    trainer, freeze = config["trainer"], config["freeze"]
    return (
        config["sweep"].get("fuse", True)
        and config["lr"] != "auto"
        and not config.get("stages")
        and not is_fitted(config["head"])
        and not is_domains(config["data"])
        and freeze.get("rules") == {"head": "trained", "*": "frozen"}
        and not (freeze.keys() - {"_target_", "rules"})
        and not any(config["regularize"].get(key) for key in _ALONE)
        and not config["augment"].get("mixup")
        and not config["augment"].get("cutmix")
        and not config["data"].get("tasks")
        and not any(config["evaluate"].get(key) for key in ("attack", "tta", "calibrate"))
        and not (trainer.keys() - {"_target_", "accelerator", "devices"})
        and trainer.get("devices", 1) == 1
        and trainer.get("accelerator") != "tpu"
        and config["precision"] in ("auto", "32-true", "bf16-mixed")
        and "_target_" not in config.get("logger", {})
        and config["transfer"].get("_target_") == "tune.transfer.fine_tune.FineTune"
        and config["optimizer"].get("_target_") in _OPTIMIZERS
    )


def _changes(augment: dict[str, Any]) -> bool:
    return any(value for key, value in augment.items() if key != "_target_")


def _has_weights(backbone: dict[str, Any]) -> bool:
    """Whether its weights come from a file, as far as the config tells."""
    if backbone.get("_target_") == "tune.models.backbones.pair.PairBackbone":
        return all(_has_weights(node) for node in backbone.values() if isinstance(node, dict))
    is_timm = backbone.get("_target_") == "tune.models.backbones.timm_model.TimmBackbone"
    return is_timm and backbone.get("weights", "hub") != "none"


def what_differs(groups: list[list[list[str]]]) -> str:
    """The overrides that tell groups apart, such as "batch_size 32, 128"; empty if none does alone.

    Args:
        groups: of each group, of each of its trials, its overrides.
    """
    values: dict[str, list[set[str]]] = {}
    for number, group in enumerate(groups):
        for overrides in group:
            for override in overrides:
                key, _, value = override.lstrip("+").partition("=")
                values.setdefault(key, [set() for _ in groups])[number].add(value)
    named = []
    for key, each in values.items():
        if all(len(one) == 1 for one in each) and len({next(iter(one)) for one in each}) > 1:
            named.append(f"{key} {', '.join(dict.fromkeys(next(iter(one)) for one in each))}")
    return "; ".join(named)
