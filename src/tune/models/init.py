"""First weights of what is not pretrained: of the head, and of a backbone that starts from random weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, final

import torch
from torch import nn

from tune.errors import ConfigError, Problem
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor


@final
class Init:
    """How weights with two or more dimensions start. Whenever they are drawn here, biases of their layers start at 0.

    With f inputs and o outputs of a unit (kernel size included), drawn at random:

    - own: what each layer does by itself; here the last linear layer is normal with sd 0.01.
    - uniform: between ±1/√f. LeCun et al. 1998, "Efficient BackProp", section 4.6, in its uniform form.
    - xavier: uniform between ±√(6 / (f + o)). Glorot and Bengio 2010, eq. 16.
    - he: normal with sd √(2 / f). He et al. 2015, "Delving Deep into Rectifiers", eq. 10.
    - orthogonal: rows of a random orthogonal matrix. Saxe et al. 2014, section 3.
    - normal: normal with sd `std`. An sd of 0 gives all units the same weights, and is refused.

    Args:
        kind: of all layers.
        last: of the last linear layer: as all others (same), as it is (own), or zeros, so that all classes are equally
            likely at first.
        std: of `normal`.

    Raises:
        ConfigError: if a key has no effect.
    """

    def __init__(
        self,
        kind: Literal["own", "uniform", "xavier", "he", "orthogonal", "normal"] = "own",
        last: Literal["same", "own", "zeros"] = "same",
        std: Annotated[float, Range("[0, inf)")] | None = None,
    ) -> None:
        if kind == "normal" and std is None:
            raise ConfigError(Problem("init.std", "needs a value: init=normal draws with this standard deviation"))
        if kind != "normal" and std is not None:
            raise ConfigError(Problem("init.std", f"has no effect on init={kind}"))
        if kind == "own" and last == "own":
            raise ConfigError(Problem("init.last", "has no effect: all layers start as they are"))
        self.kind, self.last, self.std = kind, last, std

    @torch.no_grad()
    def backbone(self, module: nn.Module) -> None:
        """Draw the weights of a backbone, in place, from the global generator."""
        for layer in module.modules():
            self._layer(layer)

    @torch.no_grad()
    def head(self, module: nn.Module) -> None:
        """Draw the weights of a head, in place, from the global generator; its last linear layer may be special."""
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        for layer in module.modules():
            if not linear or layer is not linear[-1] or self.last == "same":
                self._layer(layer)
        if self.last == "zeros":
            if not linear:
                raise ConfigError(Problem("init.last", f"has no effect: {type(module).__name__} has no linear layer"))
            for tensor in linear[-1].parameters():
                tensor.zero_()

    def _layer(self, layer: nn.Module) -> None:
        if self.kind == "own" or isinstance(layer, nn.Embedding):
            return
        weights = {name: tensor for name, tensor in layer.named_parameters(recurse=False) if tensor.ndim > 1}
        for tensor in weights.values():
            self._draw(tensor)
        if "weight" in weights and isinstance(bias := getattr(layer, "bias", None), nn.Parameter):
            bias.zero_()

    def _draw(self, weight: Tensor) -> None:
        inputs = weight[0].numel()
        outputs = weight.shape[0] * weight[0, 0].numel()
        if self.kind == "uniform":
            weight.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        elif self.kind == "xavier":
            bound = math.sqrt(6 / (inputs + outputs))
            weight.uniform_(-bound, bound)
        elif self.kind == "orthogonal":
            nn.init.orthogonal_(weight)
        else:
            weight.normal_(0, math.sqrt(2 / inputs) if self.std is None else self.std)


def refuse_equal_units(module: nn.Module) -> None:
    """Refuse a network in which, in every layer but the last, all units start with the same weights.

    Such units get the same gradient in every step and stay copies of each other for ever.

    Raises:
        ConfigError: with the name of the first such layer.
    """
    weights = [(name.removesuffix(".weight"), weight) for name, weight in module.named_parameters() if weight.ndim > 1]
    wide = [(name, weight.detach()) for name, weight in weights[:-1] if len(weight) > 1]
    if wide and all(bool((weight == weight[:1]).all()) for _, weight in wide):
        name, weight = wide[0]
        text = f"all {len(weight)} units of {name} start with the same weights, so that each gets the same gradient"
        raise ConfigError(Problem("init", f"{text} and they stay copies of one for ever. Draw them: init=he"))
