"""What people type from habit, and what it is called here."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# Ultralytics, Lightning, torchtune, timm and transformers, in that order; then slips that difflib cannot see.
HABITS: dict[str, str] = {
    "imgsz": "backbone.input_size",
    "batch": "batch_size",
    "lr0": "lr",
    "device": "trainer",
    "model": "backbone.name",
    "pretrained": "backbone.weights",
    "patience": "regularize.early_stopping",
    "workers": "data.workers",
    "cos_lr": "scheduler",
    "project": "output",
    "trainer.max_epochs": "epochs",
    "trainer.precision": "precision",
    "max_epochs": "epochs",
    "accumulate": "trainer.accumulate_grad_batches",
    "gradient_clip_val": "trainer.gradient_clip_val",
    "num_workers": "data.workers",
    "nproc_per_node": "trainer.devices",
    "train_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "learning_rate": "lr",
    "weight_decay": "regularize.weight_decay",
    "optimizer.lr": "lr",
    "optimizer.weight_decay": "regularize.weight_decay",
    "loss.label_smoothing": "regularize.label_smoothing",
    "label_smoothing": "regularize.label_smoothing",
    "head.dropout": "regularize.dropout",
    "backbone.drop_rate": "regularize.dropout",
    "dropout": "regularize.dropout",
    "data.seed": "data.split.seed",
    "data.batch_size": "batch_size",
    "data.path": "data.root",
    "data.data_dir": "data.root",
    "data.num_workers": "data.workers",
    "early_stopping": "regularize.early_stopping",
    "metric": "objective",
    "monitor": "objective",
    "output_dir": "output",
    "random_seed": "seed",
}
PREFIXES: dict[str, str] = {
    "optim": "optimizer",
    "opt": "optimizer",
    "model": "backbone",
    "net": "backbone",
    "network": "backbone",
    "dataset": "data",
    "datamodule": "data",
    "sched": "scheduler",
    "lr_scheduler": "scheduler",
    "criterion": "loss",
    "aug": "augment",
    "transforms": "augment",
    "reg": "regularize",
    "train": "trainer",
}


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the known words that look like `word`, the nearest first; also by their last part."""
    known = sorted(known)
    found = get_close_matches(word, known, n=count, cutoff=0.6)
    last = {name.rpartition("/")[2]: name for name in known}
    found += [last[part] for part in get_close_matches(word, last, n=count, cutoff=0.75) if last[part] not in found]
    return found[:count]


def suggest(key: str, known: Iterable[str]) -> str:
    """The dotted key that was probably meant, "" if there is no guess.

    Args:
        key: what was typed.
        known: every dotted key that would be right.
    """
    known = set(known)
    if key in HABITS:
        return HABITS[key]
    prefix, dot, rest = key.partition(".")
    if prefix in PREFIXES:
        return suggest(f"{PREFIXES[prefix]}.{rest}", known) or PREFIXES[prefix] if dot else PREFIXES[prefix]
    if key in known:
        return key
    if dot:
        below = {name for name in known if name.startswith(f"{prefix}.")}
        close = get_close_matches(key, below, n=1, cutoff=0.75) or get_close_matches(key, known, n=1, cutoff=0.75)
        return close[0] if close else ""
    close = get_close_matches(key, {*known, *HABITS}, n=1, cutoff=0.72)
    if not close:
        leaves = {name.rpartition(".")[2]: name for name in sorted(known, reverse=True)}
        return leaves.get(key, "")
    return HABITS.get(close[0], close[0])
