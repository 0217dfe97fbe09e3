"""What a frozen backbone says of an image at several depths, from one pass: its maps there, averaged.

    taps = Taps(backbone, layers_at(backbone, 4))
    taps.split(Encoder(taps, …)(images))          # {"blocks.1.2": (B, 24), …, "output": (B, D)}

A tap after a layer is whatever crosses the cut above it, as freezing up to there would have it (see `prefix`).
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, fx, nn
from torch.nn.modules.dropout import _DropoutNd

from tune.features.fold import fold_norms
from tune.features.graph import Entry, Uncut, crossing_nodes, module_of, roles_of, trace
from tune.features.prefix import left_as_it_is, probe_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tune.models.interface import Backbone

OUTPUT = "output"
"""Name of the last tap: the backbone's features."""


class Taps:
    """A frozen backbone that is read at several depths; an `Encoder` runs it as it runs a `Cut`.

    Torch.fx traces a copy in eval mode, and its norms are folded; the backbone stays as it is.

    Args:
        backbone: on the CPU.
        layers: names of layers behind which to read, besides the output.

    Attributes:
        prefix: images (B, C, H, W) → the tensors that are read.
        entries: what these are, in order.
        folded: how many norms were folded.
        widths: numbers that each tap gives for an image, by its name, in order; "output" is the last.

    Raises:
        Uncut: if torch.fx cannot trace it.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[str]) -> None:
        frozen = copy.deepcopy(backbone).requires_grad_(False).eval()
        with left_as_it_is(frozen):
            graph = trace(frozen)
            read = {layer: _behind(frozen, graph, layer) for layer in layers}
            (end,) = (node for node in graph.nodes if node.op == "output")
            read[OUTPUT] = [end.args[0]]
            nodes = list(dict.fromkeys(node for some in read.values() for node in some))
            order = {node: number for number, node in enumerate(graph.nodes)}
            nodes.sort(key=order.__getitem__)
            roles = roles_of(frozen, nodes, probe_images(frozen, 2), probe_images(frozen, 3))
        kept = [node for node in nodes if isinstance(roles[node.name], Entry)]
        self.entries: list[Entry] = [roles[node.name] for node in kept]
        self._places = {tap: [kept.index(node) for node in some if node in kept] for tap, some in read.items()}
        if not all(self._places.values()):
            raise Uncut("nothing of the images is found behind some layer")
        self.widths = {tap: sum(_width(self.entries[i]) for i in places) for tap, places in self._places.items()}
        self.prefix: fx.GraphModule = module_of(frozen, kept).eval()
        self.folded = fold_norms(self.prefix)

    @property
    def numel(self) -> int:
        """Numbers that all taps give for one image."""
        return sum(self.widths.values())

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """All taps in a row, (B, numel), of images (B, C, H, W)."""
        tensors = self.prefix(images)
        means = [_mean(tensor, entry) for tensor, entry in zip(tensors, self.entries, strict=True)]
        return torch.cat([means[i] for places in self._places.values() for i in places], dim=1)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Each tap, (B, D), of rows from `encode`."""
        return dict(zip(self.widths, flat.split(list(self.widths.values()), dim=1), strict=True))

    @torch.no_grad()
    def seconds(self, images: Tensor, autocast: torch.dtype | None, repeats: int = 3) -> dict[str, float]:
        """Time from the images (B, C, H, W) to each tap, per image: the shortest of some passes, after one to warm up.

        Node by node, which costs a few per cent; what stands behind a tap is not counted.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        best = dict.fromkeys(self.widths, float("inf"))
        for repeat in range(repeats + 1):
            clock = _Clock(self.prefix, images.device)
            with torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
                clock.run(images)
            for tap, places in self._places.items() if repeat else ():
                best[tap] = min(best[tap], max(clock.read[i] for i in places) / len(images))
        return best


class _Clock(fx.Interpreter):
    """Runs a module and notes when each of its outputs was there, in seconds."""

    def __init__(self, module: fx.GraphModule, device: torch.device) -> None:
        super().__init__(module)
        (end,) = (node for node in module.graph.nodes if node.op == "output")
        self.outputs: tuple[fx.Node, ...] = end.args[0]  # type: ignore[assignment]  # what `module_of` makes
        self.device, self.read, self.started = device, [0.0] * len(self.outputs), time.perf_counter()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.outputs:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.read[self.outputs.index(n)] = time.perf_counter() - self.started
        return result


def layers_at(backbone: Backbone, number: int) -> list[str]:
    """Names of `number` layers, at equal distances in depth, below the last one; fewer where there are not so many."""
    layers = list(backbone.layers)
    places = [round(len(layers) * share / (number + 1)) - 1 for share in range(1, number + 1)]
    return [layers[place] for place in dict.fromkeys(places) if 0 <= place < len(layers) - 1]


def _behind(backbone: Backbone, graph: fx.Graph, layer: str) -> list[fx.Node]:
    """The nodes that what stands above a layer reads of what stands below."""
    names = list(backbone.layers)
    above = {tensor for name in names[names.index(layer) + 1 :] for tensor in backbone.layers[name]}
    found = crossing_nodes(backbone, graph, {name.rpartition(".")[0] for name in above}, above)
    if found is None:
        raise Uncut(f"nothing of the backbone stands before what follows {layer}")
    return list(dict.fromkeys(_origin(backbone, node) for node in found))


def _origin(backbone: Backbone, node: fx.Node) -> fx.Node:
    """The node whose value this one passes on unchanged, in eval mode; most often itself."""
    passes_on = (nn.Identity, _DropoutNd, DropPath)
    while node.op == "call_module" and isinstance(backbone.get_submodule(str(node.target)), passes_on):
        (node,) = node.all_input_nodes
    return node


def _width(entry: Entry) -> int:
    if len(entry.shape) == 3:
        return entry.shape[_channel(entry.shape)]
    return entry.shape[-1] if entry.shape else entry.rows


def _channel(shape: tuple[int, ...]) -> int:
    """Where the channels of a map are: 0, or 2 in families that put them last. Height and width are the equal two."""
    first, second, third = shape
    return 2 if first == second != third else 0


def _mean(tensor: Tensor, entry: Entry) -> Tensor:
    """(B, C): the mean over everything but images and channels; windows of an image are part of it."""
    if not entry.shape:
        return tensor.reshape(-1, entry.rows).float()
    channel = _channel(entry.shape) if len(entry.shape) == 3 else len(entry.shape) - 1
    tensor = tensor.float().movedim(channel + 1, -1)
    return tensor.reshape(-1, entry.rows * tensor[0].numel() // tensor.shape[-1], tensor.shape[-1]).mean(dim=1)
