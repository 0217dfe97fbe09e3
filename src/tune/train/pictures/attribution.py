"""Where in an image the network found what spoke for a class.

Grad-CAM at the last map that a backbone makes of an image. Of a transformer, whose classes are read off one token, it
is the gradient times the activation of each patch's token, where the last layer is whose patches still matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

from tune.models.backbones.pair import PairBackbone

if TYPE_CHECKING:
    from torch import Tensor

    from tune.models.network import Network

Kind = Literal["map", "map, channels last", "tokens"]
_PREFIXES = (0, 1, 2, 5)
"""Tokens in front of those of the patches: none, one of the class, one of a teacher, four registers."""


class NoMap(Exception):
    """There is nothing to draw, and why, as part of a sentence."""


@dataclass(frozen=True)
class Place:
    """A layer that still knows where something stands in the image.

    Args:
        name: of the module in the network.
        kind: how its output is laid out.
        size: height and width of its grid.
    """

    name: str
    kind: Kind
    size: tuple[int, int]


@contextmanager
def judged_plainly(network: Network) -> Iterator[None]:
    """Inside, the network is in eval mode, whole, and changes nothing of what it was before."""
    modes = {module: module.training for module in network.modules()}
    frozen = {parameter: parameter.requires_grad for parameter in network.parameters()}
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, trains in frozen.items():
            parameter.requires_grad_(trains)


def places_of(network: Network, image: Tensor) -> list[Place]:
    """The last place of each backbone, two for a pair.

    Args:
        network: as in `judged_plainly`.
        image: (1, 3, H, W), normalised.

    Raises:
        NoMap: if there is none.
    """
    backbone = network.backbone
    parts = [backbone.first, backbone.second] if isinstance(backbone, PairBackbone) else [backbone]
    found = [_last_place(network, part, image) for part in parts]
    if not any(found):
        raise NoMap("no layer of the backbone keeps the places of the image apart, or what it says has no gradient")
    return [place for place in found if place is not None]


def maps_of(network: Network, images: Tensor, classes: Tensor, places: list[Place]) -> Tensor:
    """(B, H, W) of images (B, 3, H, W): 0 where nothing spoke for the row's class, 1 where most did.

    Source: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
    eq. 1 and 2, by captum. Of tokens, which have no map to average gradients over, each place has its own gradient, as
    in Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM", eq. 4. Maps of a pair are added, as parts of a score.

    Args:
        network: as in `judged_plainly`.
        images: normalised.
        classes: (B,).
        places: of `places_of`.
    """
    from captum.attr import LayerGradCam, LayerGradientXActivation

    height, width = images.shape[-2:]
    whole = images.new_zeros(len(images), 1, height, width)
    for place in places:
        module = network.get_submodule(place.name)
        if place.kind == "map":
            raw = LayerGradCam(lambda x: _logits(network, x), module).attribute(images, target=classes)
            assert isinstance(raw, torch.Tensor)  # a module may also give several
        else:
            raw = LayerGradientXActivation(lambda x: _logits(network, x), module).attribute(images, target=classes)
            assert isinstance(raw, torch.Tensor)
            raw = raw.sum(dim=-1)
            raw = raw[:, -math.prod(place.size) :] if place.kind == "tokens" else raw
        raw = raw.detach().float().reshape(-1, 1, *place.size) * math.prod(place.size)  # of a place, not of the map
        whole += F.interpolate(raw, (height, width), mode="bilinear")
    whole = whole[:, 0].clamp_min(0)  # (B, H, W)
    return whole / whole.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)


def _logits(network: Network, images: Tensor) -> Tensor:
    """(B, K), by the whole network, without the cut and without autocast."""
    return network.judge(network.backbone(images)).logits


def _last_place(network: Network, part: nn.Module, image: Tensor) -> Place | None:
    """The last module, called once, that keeps places apart and whose places have a gradient."""
    calls: dict[str, list[Tensor]] = {}
    hooks = []
    inside = set(part.modules()) - {part}
    for name, module in network.named_modules():
        if module in inside:

            def note(module: nn.Module, given: object, output: object, name: str = name) -> None:
                if isinstance(output, torch.Tensor) and output.requires_grad:
                    calls.setdefault(name, []).append(output)

            hooks.append(module.register_forward_hook(note))
    try:
        with torch.enable_grad():
            score = _logits(network, image.detach().clone().requires_grad_()).max()
            once = {name: some[0] for name, some in calls.items() if len(some) == 1}
            grids = {name: grid for name, output in once.items() if (grid := _grid(output, image))}
            outputs = [once[name] for name in grids]
            if not outputs or not score.requires_grad:
                return None
            gradients = torch.autograd.grad(score, outputs, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    order = {name: number for number, name in enumerate(calls)}
    speaking = [name for name, gradient in zip(grids, gradients, strict=True) if _speaks(gradient, *grids[name])]
    # Heads of attention look like maps of channels; where there are tokens, they are the ones to trust.
    tokens = [name for name in speaking if grids[name][0] == "tokens"]
    if not speaking:
        return None
    name = max(tokens or speaking, key=order.__getitem__)
    return Place(name, *grids[name])


def _grid(output: Tensor, image: Tensor) -> tuple[Kind, tuple[int, int]] | None:
    """How an output is laid out over the image, if it is."""
    shape, (height, width) = tuple(output.shape), image.shape[-2:]
    if shape[:1] != image.shape[:1]:
        return None  # parts of images as rows of their own
    if len(shape) == 4 and _fits(shape[2], shape[3], height, width):
        return "map", (shape[2], shape[3])
    if len(shape) == 4 and _fits(shape[1], shape[2], height, width):
        return "map, channels last", (shape[1], shape[2])
    for prefix in _PREFIXES if len(shape) == 3 else ():
        rows = round(math.sqrt(max(shape[1] - prefix, 0) * height / width))
        if rows > 1 and (shape[1] - prefix) % rows == 0 and _fits(rows, (shape[1] - prefix) // rows, height, width):
            return "tokens", (rows, (shape[1] - prefix) // rows)
    return None


def _fits(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether a grid has the shape of the image, to a place."""
    return rows * columns > 1 and rows <= height and abs(rows * width - columns * height) < max(height, width)


def _speaks(gradient: Tensor | None, kind: Kind, size: tuple[int, int]) -> bool:
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        return False
    patches = gradient[:, -math.prod(size) :] if kind == "tokens" else gradient
    return bool(patches.abs().max() > 0)
