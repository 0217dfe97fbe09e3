"""Which layers train, and when: a pure function of the plan, the layers' names and the epoch.

    plan = FreezePlan(rules={"head": "trained", "layer4": "trained", "*": "frozen"})
    phases = plan.phases(list(network.layers), epochs=10)
    apply_phase(network, phases[0], plan.norm)

Layers come in the network's order, from the input to "head". Depth is counted in them, so that "the last third" means
the same for every family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

from tune.errors import ConfigError, Problem
from tune.models.select import decide_by_rules, layers_above_cut
from tune.ranges import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from tune.models.network import Network


@dataclass(frozen=True)
class Phase:
    """From `start_epoch` (counted from 0) on, until the next phase, the layers `trained` train and no others do."""

    start_epoch: int
    trained: frozenset[str]


@final
class FreezePlan:
    """Which layers train, at which share of `lr`, and from which epoch on.

    `rules` or `cut` choose the layers; without either everything trains. With `head_epochs` the head trains alone at
    first; then the other chosen layers join, in `parts` equal parts from the head down.

    Args:
        rules: layer → trained or frozen, in this order; the first that matches decides. A key is the name of a
            layer ("layer4.1"), what several names begin with ("layer4"), or a pattern with * and ?. Every layer
            must be decided by one rule, and every rule must decide a layer.
        cut: how much of the backbone trains, with the head: a share of its layers (0.5), a number of layers from
            the top (4), the name of a layer (it and all above), or a list of regular expressions, each matching the
            whole name of a layer.
        head_epochs: epochs in which the head trains alone.
        parts: number of steps in which the other layers join after `head_epochs`.
        part_epochs: epochs between two such steps.
        backbone_lr: rate of the topmost backbone layer, as a factor on `lr`.
        decay: factor on the rate from each backbone layer to the one below it.
        norm: eval keeps the statistics of frozen norm layers still; train lets them follow the data.
    """

    def __init__(
        self,
        rules: dict[str, Literal["trained", "frozen"]] | None = None,
        cut: float | int | str | list[str] | None = None,
        head_epochs: Annotated[int, Range("[0, inf)")] = 0,
        parts: Annotated[int, Range("[1, inf)")] = 1,
        part_epochs: Annotated[int, Range("[1, inf)")] = 1,
        backbone_lr: Annotated[float, Range("(0, inf)")] = 1.0,
        decay: Annotated[float, Range("(0, 1]")] = 1.0,
        norm: Literal["eval", "train"] = "eval",
    ) -> None:
        self.rules, self.cut = rules, cut
        self.head_epochs, self.parts, self.part_epochs = head_epochs, parts, part_epochs
        self.backbone_lr, self.decay = backbone_lr, decay
        self.norm: Literal["eval", "train"] = norm
        self.keeps_head = False  # set by the run where a transfer method asks for it

    def phases(self, layers: Sequence[str], epochs: int) -> list[Phase]:
        """Work the plan out for a network's layers (the last is "head") and a number of epochs.

        Raises:
            ConfigError: holds every rule that decides nothing, unknown layer, and key without effect.
        """
        chosen = self._chosen(layers)
        below_head = [layer for layer in layers if layer in chosen and layer != "head"]
        problems = self._schedule_problems(chosen, below_head, epochs)
        problems += self._rate_problems(layers, below_head)
        if self.norm == "train" and len(chosen) == len(layers) and not self.head_epochs:
            problems.append(Problem("freeze.norm", "train has no effect: nothing is frozen"))
        if problems:
            raise ConfigError(*problems)
        if not self.head_epochs:
            return [Phase(0, chosen)]
        phases = [Phase(0, frozenset({"head"}))]
        for part in range(1, self.parts + 1):
            joined = below_head[-(-len(below_head) * (self.parts - part) // self.parts) :]
            phases.append(Phase(self._start(part), frozenset({"head", *joined})))
        return phases

    def lr_factors(self, layers: Sequence[str]) -> dict[str, float]:
        """Factor on `lr` of each layer: 1 for the head, ``backbone_lr * decay^i`` for the i-th below it, from i = 0."""
        backbone = [layer for layer in layers if layer != "head"]
        factors = {layer: self.backbone_lr * self.decay**i for i, layer in enumerate(reversed(backbone))}
        return {layer: factors.get(layer, 1.0) for layer in layers}

    def _chosen(self, layers: Sequence[str]) -> frozenset[str]:
        if self.rules is not None and self.cut is not None:
            raise ConfigError("freeze.cut: has no effect beside freeze.rules. For a cut: freeze=mid freeze.cut=…")
        if self.rules is not None:
            chosen = decide_by_rules(self.rules, layers)
        elif self.cut is not None:
            chosen = layers_above_cut(self.cut, [layer for layer in layers if layer != "head"]) | {"head"}
        else:
            chosen = frozenset(layers)
        if self.keeps_head:
            chosen -= {"head"}
            if not chosen:
                raise ConfigError(
                    "freeze: transfer keeps the head as it is, and nothing else trains. Take freeze=full."
                )
        if not chosen:
            raise ConfigError("freeze.rules: nothing trains. Give at least the head: {head: trained, '*': frozen}.")
        return chosen

    def _start(self, part: int) -> int:
        return self.head_epochs + (part - 1) * self.part_epochs

    def _schedule_problems(self, chosen: frozenset[str], below_head: list[str], epochs: int) -> list[Problem]:
        problems = []
        if not self.head_epochs:
            if self.parts != 1:
                problems.append(Problem("freeze.parts", "has no effect without freeze.head_epochs"))
            if self.part_epochs != 1:
                problems.append(Problem("freeze.part_epochs", "has no effect without freeze.parts of 2 or more"))
            return problems
        if "head" not in chosen:
            problems.append(
                Problem("freeze.head_epochs", "the head is frozen by freeze.rules, so it cannot train alone")
            )
        if not below_head:
            problems.append(Problem("freeze.head_epochs", "has no effect: nothing but the head trains at any time"))
        elif self.parts > len(below_head):
            text = f"{self.parts} parts of {len(below_head)} layers; at most one part for each"
            problems.append(Problem("freeze.parts", text))
        if self.parts == 1 and self.part_epochs != 1:
            problems.append(Problem("freeze.part_epochs", "has no effect without freeze.parts of 2 or more"))
        if self._start(self.parts) >= epochs:
            text = (
                f"the last layers would join in epoch {self._start(self.parts) + 1} of {epochs}. "
                f"Lower freeze.head_epochs, freeze.parts or freeze.part_epochs, or give more epochs"
            )
            problems.append(Problem("epochs", text))
        return problems

    def _rate_problems(self, layers: Sequence[str], below_head: list[str]) -> list[Problem]:
        if not below_head:
            keys = (("backbone_lr", self.backbone_lr), ("decay", self.decay))
            text = "has no effect: no layer of the backbone trains"
            return [Problem(f"freeze.{key}", text) for key, value in keys if value != 1]
        topmost = [layer for layer in layers if layer != "head"][-1]
        if self.decay != 1 and below_head == [topmost]:
            return [
                Problem("freeze.decay", f"has no effect: of the backbone only the topmost layer, {topmost}, trains")
            ]
        return []


@final
class AutoFreeze:
    """One of three plans, chosen when the run starts, from its data and the backbone's features.

    The rule of thumb: little data or a close task, deep; more data, mid; much data or a distant task, full. At most
    1,000 training and 500 validation rows are looked at, drawn by ``data.split.seed``; no test row is.

    Args:
        deep: plan for little data or a close task.
        mid: plan for more data.
        full: plan for much data or a distant task, and for a backbone with random weights.
        chosen: set by the run: what it chose and why.

    Raises:
        ConfigError: if one of the three is no plan.
    """

    def __init__(self, deep: Any, mid: Any, full: Any, chosen: dict[str, Any] | None = None) -> None:
        for name, plan in (("deep", deep), ("mid", mid), ("full", full)):
            if not isinstance(plan, FreezePlan):
                raise ConfigError(f"freeze.{name}: must be a plan such as conf/freeze/{name}.yaml, not {plan!r}.")
        self.chosen = chosen


@dataclass(frozen=True)
class AuditRow:
    """What happens to one layer.

    Args:
        layer: its name.
        parameters: how many numbers may be learned in it.
        trained_from: epoch, counted from 0, from which on it trains; None if it never does.
        num_norms: norm layers in it that keep statistics of the data.
        norm: mode of those while the layer is frozen, "eval" or "train"; "train" if it never is; "none" without any.
    """

    layer: str
    parameters: int
    trained_from: int | None
    num_norms: int
    norm: Literal["eval", "train", "none"]


def audit(network: Network, plan: FreezePlan, phases: Sequence[Phase]) -> list[AuditRow]:
    """What the plan means for each layer of the network, from the input to the head."""
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    norms = _norm_layers(network)
    rows = []
    for layer, names in network.layers.items():
        starts = [phase.start_epoch for phase in phases if layer in phase.trained]
        num_norms = len({name.rpartition(".")[0] for name in names} & norms.keys())
        norm = "none" if not num_norms else "train" if starts[:1] == [0] else plan.norm
        num_parameters = sum(sizes.get(name, 0) for name in names)
        rows.append(AuditRow(layer, num_parameters, min(starts, default=None), num_norms, norm))
    return rows


def phase_at(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase that holds in an epoch, counted from 0."""
    return [phase for phase in phases if phase.start_epoch <= epoch][-1]


def apply_phase(network: Network, phase: Phase, norm: str) -> None:
    """Let the parameters of the trained layers require gradients, and no others. In place.

    Raises:
        ConfigError: if `norm` is "train" and, in the first phase, which freezes most, no frozen layer has a norm that
            keeps statistics.
    """
    trained = {name for layer in phase.trained for name in network.layers[layer]}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    if norm == "train" and phase.start_epoch == 0 and not _frozen_norms(network, phase):
        raise ConfigError("freeze.norm: train has no effect: no frozen layer has a norm that keeps statistics.")


def set_modes(network: Network, phase: Phase, norm: str) -> None:
    """Put every frozen part of a network in train mode into eval mode: norms, dropout, drop path. In place.

    To be called after `network.train()`. A module is frozen if all of its parameters and buffers belong to frozen
    layers. With `norm` "train" frozen norm layers that keep statistics stay in train mode.
    """
    owners: dict[str, set[bool]] = {}
    for layer, names in network.layers.items():
        for name in names:
            while name := name.rpartition(".")[0]:
                owners.setdefault(name, set()).add(layer in phase.trained)
    for name, module in network.named_modules():
        if owners.get(name) == {False}:
            # Statistics move even under no_grad, so what is frozen must also be in eval mode.
            module.eval()
    if norm == "train":
        for module in _frozen_norms(network, phase):
            module.training = True


def is_norm_buffer(module: nn.Module, name: str) -> bool:
    """Whether `name`, of a module's state dict, belongs to the statistics that a norm layer keeps."""
    owner, _, tensor = name.rpartition(".")
    return tensor in _STATISTICS and owner in _norm_layers(module)


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def _norm_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Norm layers that keep statistics of the data, by name; layer norms, which keep none, are not among them."""
    owners = {name.rpartition(".")[0] for name, _ in module.named_buffers() if name.endswith(".running_var")}
    return {name: module.get_submodule(name) for name in owners}


def _frozen_norms(network: Network, phase: Phase) -> list[nn.Module]:
    frozen = {name for layer, names in network.layers.items() if layer not in phase.trained for name in names}
    return [module for name, module in _norm_layers(network).items() if f"{name}.running_var" in frozen]
