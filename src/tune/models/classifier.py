"""The classifier that a timm model was trained with: what its features were made to tell apart."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm

from tune.models.weights import PACKAGES, WORDS, read_state

if TYPE_CHECKING:
    from torch import Tensor

TARGET = "tune.models.backbones.timm_model.TimmBackbone"


def source_classifier(node: dict[str, Any], feature_dim: int) -> tuple[Tensor, Tensor] | str:
    """Weight (Z, D) and bias (Z,) of the linear classifier behind a backbone's features; or why there is none.

    Args:
        node: the backbone's node of a config.
        feature_dim: D.
    """
    weights = node.get("weights", "hub")
    if node["_target_"] != TARGET:
        return "it has no classifier of its source"
    if weights == "none":
        return "random weights know no source classes"
    if weights.startswith("run:"):
        return "a run's own classes are asked with --runs"
    if node.get("readout", "model") != "model":
        return f"the classifier of its source does not read backbone.readout={node['readout']}"
    cfg = timm.get_pretrained_cfg(node["name"])
    classifier = cfg.classifier if cfg is not None else None
    state = _state(node["name"], weights, classifier)
    if state is None or not isinstance(classifier, str):
        return "its weights come without a classifier"
    pair = state.get(f"{classifier}.weight"), state.get(f"{classifier}.bias")
    if pair[0] is None or pair[1] is None or pair[0].shape[1:] != (feature_dim,):
        return "its weights come without a classifier of these features"
    return pair[0], pair[1]


def _state(name: str, weights: str, classifier: Any) -> dict[str, Tensor] | None:
    """The file that the weights come from, under timm's names as far as the classifier goes."""
    if weights == "package":
        _, module, file_class = PACKAGES[name]
        theirs = list(
            read_state(Path(getattr(importlib.import_module(module), file_class).get_model_file_path())).values()
        )
        return {f"{classifier}.weight": theirs[-2], f"{classifier}.bias": theirs[-1]}  # they end in the classifier
    if weights in WORDS:
        from tune.models.hub import weights_file

        cfg = timm.get_pretrained_cfg(name)
        assert cfg is not None, name
        return read_state(weights_file(name, cfg))
    return read_state(Path(weights).expanduser())
