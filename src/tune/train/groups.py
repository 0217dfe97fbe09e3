"""Which parameter learns at which rate: one group of the optimizer per layer, with and without weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tune.models.freeze import FreezePlan, Phase
    from tune.models.network import Network


def parameter_groups(
    network: Network, owners: dict[str, Any], plan: FreezePlan, phases: list[Phase], lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimizer: every parameter that trains in some phase, once.

    A layer's rate is `lr` times its factor in the plan. Weight decay is for weights with more than one dimension:
    it would only pull biases and norms towards a meaningless zero. Those of loss and transfer method learn at `lr`.

    Returns:
        Groups with params, lr, weight_decay and name (the layer).
    """
    ever_trained = frozenset().union(*(phase.trained for phase in phases))
    factors = plan.lr_factors(list(network.layers))
    parameters = dict(network.named_parameters())
    groups = []
    for layer, names in network.layers.items():
        if layer in ever_trained:
            tensors = [parameters[name] for name in names if name in parameters]
            groups += _with_and_without_decay(layer, tensors, lr * factors[layer], weight_decay)
    for name, owner in owners.items():
        if isinstance(owner, nn.Module):
            groups += _with_and_without_decay(name, list(owner.parameters()), lr, 0.0)
    return groups


def _with_and_without_decay(
    layer: str, tensors: Sequence[Tensor], lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    decayed = [tensor for tensor in tensors if tensor.ndim > 1]
    plain = [tensor for tensor in tensors if tensor.ndim <= 1]
    groups = [
        {"params": decayed, "lr": lr, "weight_decay": weight_decay, "name": layer},
        {"params": plain, "lr": lr, "weight_decay": 0.0, "name": layer},
    ]
    return [group for group in groups if group["params"]]
