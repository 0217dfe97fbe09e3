"""`freeze=auto`: the run itself decides what trains, from its rows and from what the frozen backbone says of them.

The decision is a note in the config (`freeze.chosen`), so that a resumed run and the other processes of a distributed
one take it over; a new run looks anew.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from tune.config.build import build
from tune.data.options import separate
from tune.features import transferability as scores
from tune.features.graph import Uncut
from tune.features.taps import OUTPUT, layers_at
from tune.models.interface import FittedHead
from tune.train.choose.look import look, sample, tapped
from tune.train.choose.rule import Choice, Evidence, Tap, decide, summary

if TYPE_CHECKING:
    from pathlib import Path

    from tune.data.module import ImageData
    from tune.features.contents import Contents
    from tune.models.freeze import AutoFreeze
    from tune.models.network import Network
    from tune.train.devices.precision import Precision

TRAIN_ROWS, VAL_ROWS, DEPTHS = 1000, 500, 4
TARGET = "tune.models.freeze.AutoFreeze"


def choose_freeze(
    config: dict[str, Any],
    network: Network,
    data: ImageData,
    contents: Contents,
    precision: Precision,
    device: str,
) -> tuple[dict[str, Any], Choice | None]:
    """The config with the plan that was chosen in the place of `freeze=auto`, and the choice; else the config as it is.

    Draws nothing from torch's generator and leaves the network as it is, so that the run is that of the chosen option.
    """
    node = config["freeze"]
    if node["_target_"] != TARGET:
        return config, None
    auto: AutoFreeze = build(node)
    if auto.chosen is not None:
        choice = Choice(**auto.chosen)
    elif not network.backbone.weights_digest:
        choice = Choice("full", "random weights: the backbone has nothing to keep")
    elif not len(data.table.labelled(data.parts.train)):
        choice = Choice("full", "no label is known, so nothing says that less would do")
    elif isinstance(network.head, FittedHead):
        choice = Choice("deep", "the head is fitted to what a frozen backbone says")
    else:
        with torch.random.fork_rng(devices=[]):
            evidence = gather(config, network, data, contents, precision, device)
        choice = Choice(*decide(evidence), summary(evidence), asdict(evidence))
    return {**config, "freeze": node[choice.option]}, choice


def noted(config: dict[str, Any], choice: Choice | None) -> dict[str, Any]:
    """The config as it was typed, with a note of what was chosen."""
    return config if choice is None else {**config, "freeze": {**config["freeze"], "chosen": asdict(choice)}}


def taken_over(config: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """The config of a run with the note that its first process left in the run folder."""
    if config["freeze"]["_target_"] != TARGET:
        return config
    return {**config, "freeze": yaml.safe_load((run_dir / "config.yaml").read_text())["freeze"]}


def gather(
    config: dict[str, Any], network: Network, data: ImageData, contents: Contents, precision: Precision, device: str
) -> Evidence:
    """What the training rows, and the backbone's features of some of them at several depths, say."""
    table, labels = data.table, np.asarray(data.table.seen_labels, dtype=np.int64)
    trained, validated = table.labelled(data.parts.train), table.labelled(data.parts.val)
    classes = len(np.unique(labels[trained]))
    seed = separate(config["data"])[0].split.seed
    train, val = sample(labels, trained, TRAIN_ROWS, seed), sample(labels, validated, VAL_ROWS, seed)
    backbone = network.backbone
    try:
        seen = tapped(backbone, layers_at(backbone, DEPTHS), config, precision, device, len(train) + len(val))
    except Uncut as error:
        return Evidence(len(trained), classes, untapped=f"the features were not looked at: {error}")
    features = look(seen, config, data, contents, np.concatenate([train, val]))
    said = {
        layer: _probed(each[: len(train)], labels[train], each[len(train) :])
        for layer, each in seen.split(features).items()
    }
    right = {layer: probe == labels[val] for layer, (_, _, probe) in said.items()}
    taps = tuple(
        Tap(
            layer,
            seen.taps.widths[layer],
            log_me,
            scores.balanced_accuracy(knn, labels[val]),
            scores.balanced_accuracy(probe, labels[val]),
            _errors(right[layer], right[OUTPUT]),
        )
        for layer, (log_me, knn, probe) in said.items()
    )
    return Evidence(len(trained), classes, len(train), taps)


def _probed(rows: scores.Array, labels: scores.Labels, others: scores.Array) -> tuple[float, Any, Any]:
    return (
        scores.log_me(rows, labels),
        scores.neighbours(rows, labels, others),
        scores.probe(rows, labels, others),
    )


def _errors(right: np.ndarray, base: np.ndarray) -> float:
    """By how many standard errors more rows are told right than by another, on the same rows; 0 where they agree."""
    difference = right.astype(float) - base
    error = difference.std() / np.sqrt(len(difference))
    return float(difference.mean() / error) if error else 0.0
