from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from tune.models.network import Network

RECTIFIERS = (nn.ReLU, nn.ReLU6)
"""Activations of which a zero lets no gradient through."""


@final
class Rectified:
    """Watches the rectifiers of the layers that train, in every pass until it is asked.

    A rectifier has no parameters, and one module may be used in several layers: it belongs to the layer whose module
    with parameters began to run last before it. This holds in what is cut out of a backbone too, which shares its
    modules.

    Args:
        network: that runs.
        layers: of each module that holds tensors of one layer alone, by the module's name.
        trained: layers that train.
    """

    def __init__(self, network: Network, layers: Mapping[str, str], trained: Set[str]) -> None:
        self.trained, self.last = trained, ("", "")  # layer and module
        self.largest: dict[tuple[str, str, str], tuple[Tensor, int]] = {}  # of each channel, and of how many values
        self.hooks: list[Any] = []
        modules = dict(network.named_modules())
        for name, module in modules.items():
            if isinstance(module, RECTIFIERS) and _layer_around(name, layers) in (None, *trained):
                self.hooks.append(module.register_forward_hook(self._looker(name)))
        for name, layer in layers.items() if self.hooks else ():
            self.hooks.append(modules[name].register_forward_pre_hook(self._noter(layer, name)))

    def shares(self) -> dict[str, tuple[float, int]]:
        """Of each layer with rectifiers, the share of channels that never rose above 0, and the fewest values of one.

        To be called once; then it no longer watches.
        """
        for hook in self.hooks:
            hook.remove()
        counts: dict[str, list[tuple[int, int, int]]] = {}
        for (layer, _, _), (largest, values) in self.largest.items():
            counts.setdefault(layer, []).append((int((largest == 0).sum()), len(largest), values))
        return {
            layer: (sum(dead for dead, _, _ in each) / sum(size for _, size, _ in each), min(n for _, _, n in each))
            for layer, each in counts.items()
        }

    def _noter(self, layer: str, name: str) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            self.last = (layer, name)

        return hook

    def _looker(self, name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            if self.last[0] not in self.trained:
                return
            output = output.detach()
            channels = 1 if output.ndim == 4 else output.ndim - 1
            now = output.amax([dim for dim in range(output.ndim) if dim != channels])
            key, values = (*self.last, name), output.numel() // len(now)
            if key in self.largest:
                before, n = self.largest[key]
                now, values = now.maximum(before), values + n
            self.largest[key] = (now, values)

        return hook


def _layer_around(name: str, layers: Mapping[str, str]) -> str | None:
    """The layer that a module stands in, if one of those around it is of one layer alone."""
    while name := name.rpartition(".")[0]:
        if name in layers:
            return layers[name]
    return None
