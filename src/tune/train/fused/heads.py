"""K heads of one shape as stacked parameters; under vmap they run as batched matrix products."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from tune.models.heads.dropout import KeyedDropout, draw_mask
from tune.train.fused.optim import CannotFuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tune.models.interface import Head


class StackedHeads(nn.Module):
    """K heads as one: the same modules, every parameter with a first dimension K.

    Args:
        heads: of one shape; they differ in their values and in their dropout.
        features: (B, D), any, to find out what the dropouts of a head see.
        first_dropout: number of the first dropout layer of a head in its network.

    Raises:
        CannotFuse: if a head has state that is no parameter, or draws at random otherwise than by `KeyedDropout`.
    """

    def __init__(self, heads: Sequence[Head], features: Tensor, first_dropout: int = 0) -> None:
        super().__init__()
        self.first_dropout = first_dropout
        names = [name for name, _ in heads[0].named_parameters()]
        if any(dict(head.named_buffers()) for head in heads):
            raise CannotFuse(f"{type(heads[0]).__name__} has state that is no parameter")
        if any(_shape(head) != _shape(heads[0]) for head in heads):
            raise CannotFuse(f"{type(heads[0]).__name__} is not built alike in all trials")
        self.names = names
        own = [dict(head.named_parameters()) for head in heads]
        self.stacked = nn.ParameterList([torch.stack([each[name].detach() for each in own]) for name in names])
        self._one = [copy.deepcopy(heads[0]).requires_grad_(False)]  # in a list: its parameters are not ours
        self._dropouts = [module for module in self._one[0].modules() if isinstance(module, KeyedDropout)]
        for dropout in self._dropouts:
            dropout.p = 0.0  # the masks say it all
        for module in self._one[0].modules():
            if type(module) is nn.Linear and module.bias is not None:
                module.forward = partial(_linear, module)  # pyright: ignore[reportAttributeAccessIssue]
        self.shares = self.all_shares = [
            tuple(module.p for module in head.modules() if isinstance(module, KeyedDropout)) for head in heads
        ]
        self._widths = _widths(self._one[0], self._dropouts, features)

    def params(self) -> dict[str, Tensor]:
        """All parameters, (K, …), by the names that a head has for them."""
        return dict(zip(self.names, self.stacked, strict=True))

    def run(
        self, params: dict[str, Tensor], features: Tensor, masks: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """One head: embedding (B, E) and logits (B, C), float32, of features (B, D); to be called under vmap.

        Args:
            params: of the head.
            features: of the rows.
            masks: of each dropout layer, (B, …), or none where nothing is dropped; None outside training.
        """
        head = self._one[0].train(masks is not None)
        for dropout, mask in zip(self._dropouts, masks or [], strict=False):
            dropout.mask = mask
        try:
            embedding, logits = functional_call(head, params, (features,))
        finally:
            for dropout in self._dropouts:
                dropout.mask = None
        return embedding, logits.float()

    def masks(self, seeds: Sequence[int], shares: tuple[float, ...], step: int, rows: int) -> list[Tensor]:
        """What each dropout layer multiplies by in a step, (S, B, …): what a head of each seed would draw alone.

        Args:
            seeds: as the network of a head would be given them.
            shares: of each layer, the same for all seeds.
            step: of the training.
            rows: B.
        """
        if not any(shares):
            return []
        device, masks = self.stacked[0].device, []
        for layer, (share, width) in enumerate(zip(shares, self._widths, strict=True)):
            keys = [(seed, step, self.first_dropout + layer) for seed in seeds]
            masks.append(torch.stack([draw_mask(share, key, (rows, *width), device) for key in keys]))
        return masks

    def keep(self, alive: Tensor) -> None:
        """Go on with the heads of these numbers (k,)."""
        for number, tensor in enumerate(self.stacked):
            self.stacked[number] = nn.Parameter(tensor.detach()[alive])
        self.shares = [self.shares[number] for number in alive.tolist()]

    def take(self, values: dict[str, Tensor], chosen: Tensor) -> None:
        """Go back to the heads of these numbers (k,) among all that there were, with these values."""
        self.shares = [self.all_shares[number] for number in chosen.tolist()]
        for number, name in enumerate(self.names):
            self.stacked[number] = nn.Parameter(values[name][chosen].to(self.stacked[number].device))

    def values(self) -> dict[str, Tensor]:
        """Copies of all parameters, (K, …)."""
        return {name: tensor.detach().clone() for name, tensor in zip(self.names, self.stacked, strict=True)}


def _linear(module: nn.Linear, values: Tensor) -> Tensor:
    return _Linear.apply(values, module.weight, module.bias)


class _Linear(torch.autograd.Function):
    """A linear layer; under vmap, K layers on the same rows are one matrix product.

    torch's own rule makes K products of it, whose gradients take three times as long.
    """

    @staticmethod
    def forward(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(values, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: what vmap calls below has gradients of its own."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple, values: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, int]:
        heads, outputs, inputs = weight.shape  # parameters are stacked along the first dimension
        if in_dims[0] is None and values.ndim == 2:
            product = (values @ weight.reshape(heads * outputs, inputs).T).reshape(-1, heads, outputs).transpose(0, 1)
        else:
            values = values if in_dims[0] is None else values.movedim(in_dims[0], 0)
            product = torch.matmul(values, weight.transpose(1, 2))
        return product + bias[:, None], 0


def _shape(head: nn.Module) -> list[tuple[Any, ...]]:
    """How a head is built: its modules and their plain attributes, but for the share of a keyed dropout."""
    plain = (bool, int, float, str, tuple, type(None))
    found: list[tuple[Any, ...]] = [(name, tensor.shape) for name, tensor in head.named_parameters()]
    for name, module in head.named_modules():
        own = {key: value for key, value in vars(module).items() if isinstance(value, plain)}
        found.append((name, type(module), None if isinstance(module, KeyedDropout) else own))
    return found


def _widths(head: nn.Module, dropouts: list[KeyedDropout], features: Tensor) -> list[tuple[int, ...]]:
    """What each dropout layer sees of a row."""
    seen: dict[nn.Module, tuple[int, ...]] = {}
    hooks = [
        dropout.register_forward_pre_hook(lambda module, inputs: seen.update({module: tuple(inputs[0].shape[1:])}))
        for dropout in dropouts
    ]
    with torch.no_grad():
        head.eval()(features)
    for hook in hooks:
        hook.remove()
    if missing := [dropout for dropout in dropouts if dropout not in seen]:
        raise CannotFuse(f"{len(missing)} dropout layers of the head are not used")
    return [seen[dropout] for dropout in dropouts]
