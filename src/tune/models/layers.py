"""The layers of a timm model in order, each with a name that says where it stands in the model."""

from __future__ import annotations

from collections import defaultdict
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from timm.models._manipulate import group_with_matcher  # public under this name in no released version

if TYPE_CHECKING:
    from torch import nn


def ordered_layers(model: nn.Module) -> dict[str, list[str]]:
    """Split a timm model's parameters and buffers into its layers, from input to output.

    The split is timm's `group_matcher(coarse=False)`. A layer is called after the module that holds most of its
    parts and nothing of another layer ("layer3.1", "blocks.5.0"); the first one "stem", if it is not one module.
    No name begins with "head", which is the part of the network behind the backbone.
    """
    tensors = dict(chain(model.named_parameters(), model.named_buffers()))
    pairs = [(name, name) for name in tensors]
    groups = group_with_matcher(iter(pairs), model.group_matcher(coarse=False), return_values=True)  # type: ignore[operator]
    owners: dict[str, set[int]] = defaultdict(set)
    for number, names in groups.items():
        for name in names:
            for module in _modules_above(name):
                owners[module].add(number)
    layers: dict[str, list[str]] = {}
    for number, names in groups.items():
        parts: dict[str, set[str]] = defaultdict(set)
        for name in names:
            for module in _modules_above(name):
                if owners[module] == {number}:
                    parts[module].add(name.rpartition(".")[0])
        best = max(parts, key=lambda module: (len(parts[module]), module.count(".")), default="")
        is_whole = best and all(name.startswith(f"{best}.") for name in names)
        layers[_free_name("stem" if not layers and not is_whole else best or f"layer{number}", layers)] = names
    return layers


def _modules_above(tensor: str) -> list[str]:
    """ "a.b.weight" → ["a", "a.b"]."""
    return list(accumulate(tensor.split(".")[:-1], "{}.{}".format))


def _free_name(name: str, layers: dict[str, list[str]]) -> str:
    """`name` without a leading "head", which is the network's own, and unlike the other layers' names."""
    name = "norm" if name == "head" else name.removeprefix("head.")
    while name in layers or name == "head":
        name += "_"
    return name
