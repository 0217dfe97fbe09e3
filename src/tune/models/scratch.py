"""What backbones that are written here, and not by timm, have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tune.models import weights as sources

if TYPE_CHECKING:
    from tune.models.interface import Backbone


def complete(backbone: Backbone, weights: str, output: str) -> None:
    """Give a backbone its layers (its children, in order), its weights and where they come from, and its width.

    Args:
        backbone: with all its modules and `input`.
        weights: none (random), run:ID (a finished run) or a file (safetensors or state dict).
        output: folder below which `run:ID` is looked for.

    Raises:
        ConfigError: if the weights cannot be had.
    """
    tensors = [*backbone.named_parameters(), *backbone.named_buffers()]
    layers: dict[str, list[str]] = {}
    for child, _ in backbone.named_children():
        if names := [name for name, _ in tensors if name.startswith(f"{child}.")]:
            layers[child] = names
    backbone.layers = layers
    if weights == "none":
        backbone.weights_source, backbone.weights_digest = "random weights", ""
    else:
        if weights.startswith("run:"):
            backbone.weights_source = sources.load_run(backbone, weights.removeprefix("run:"), output, "backbone.")
        else:
            backbone.weights_source = sources.load_path(backbone, weights, ())
        backbone.weights_digest = sources.digest(backbone)
    was_training = backbone.training
    with torch.no_grad():
        backbone.feature_dim = backbone.eval()(torch.zeros(1, 3, *backbone.input.size)).shape[1]
    backbone.train(was_training)
