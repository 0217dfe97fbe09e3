"""Holds the freeze plan to its word: what is frozen stays, what trains moves.

The start of each phase takes a picture of every parameter and buffer, and once all rows have come (with the phase's
first epoch, or with later ones where `epoch_steps` makes them shorter) it is compared. Not after one step: a residual
block whose last norm starts at zero has no gradient in its first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback

from tune.errors import RunError
from tune.models.freeze import is_norm_buffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@final
class FreezeAudit(Callback):
    """Stops a run whose network does not train what was promised.

    A frozen tensor or buffer that moved, and a trainable parameter that never had a gradient, stop the run; one that
    had a gradient and did not move is a warning with its rate.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.picture: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.picture = {}
        if any(phase.start_epoch == trainer.current_epoch for phase in pl_module.phases):
            self.picture = _on_cpu(pl_module)
            self.until = _last_epoch(trainer, pl_module)
            # Lightning runs callbacks before the module's own hook, which enters the phase.
            phase = next(phase for phase in pl_module.phases if phase.start_epoch == trainer.current_epoch)
            names = {name for layer in phase.trained for name in pl_module.network.layers[layer]}
            self.trained = {f"network.{name}" for name in names}
            self.trained |= {name for name in self.picture if name.startswith(("loss.", "transfer."))}
            self.largest: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if not self.picture:
            return
        pairs = [(name, p.grad) for name, p in pl_module.named_parameters() if p.grad is not None]
        norms = torch._foreach_norm([grad for _, grad in pairs])  # one launch instead of one per tensor
        for (name, _), norm in zip(pairs, norms, strict=True):
            self.largest[name] = torch.maximum(self.largest[name], norm) if name in self.largest else norm

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not self.picture or trainer.current_epoch < self.until:
            return
        state = _on_cpu(pl_module)
        parameters = {name for name, _ in pl_module.named_parameters()}
        moved = {name for name, tensor in state.items() if not same_bits(tensor, self.picture[name])}
        self.picture = {}
        may_move = self.trained | {
            name for name in state if pl_module.plan.norm == "train" and is_norm_buffer(pl_module, name)
        }
        if stirred := sorted(moved - may_move):
            raise RunError(f"frozen, but it moved in epoch {trainer.current_epoch + 1}: {_listed(stirred)}")
        trained = sorted(self.trained & parameters)
        silent = [name for name in trained if name not in self.largest or not float(self.largest[name]) > 0]
        if cause := never_had_a_gradient(silent):
            raise RunError(cause)
        if stuck := [name for name in trained if name not in moved]:
            rates = {
                name: group["lr"] for group in trainer.optimizers[0].param_groups for name in _names(group, pl_module)
            }
            rate = max(rates[name] for name in stuck)
            self.say(f"warning: had a gradient, but did not move at a rate of {rate:.1e}: {_listed(stuck)}")


def _last_epoch(trainer: Any, module: Any) -> int:
    """The epoch with which all rows have come since this one began, if the phase and the run last so long."""
    now = trainer.current_epoch
    ends = [phase.start_epoch for phase in module.phases if phase.start_epoch > now]
    return min(now + trainer.datamodule.epochs_per_pass, trainer.max_epochs, *ends) - 1


def never_had_a_gradient(names: list[str]) -> str:
    """What to say of parameters that should train and had no gradient for any row; empty if there are none."""
    text = "it is in the optimizer, but never had a gradient; freeze it by a rule of freeze.rules or use it"
    return f"trainable, but it cannot learn: {_listed(names)}: {text}" if names else ""


def _on_cpu(module: Any) -> dict[str, Tensor]:
    """A copy of every parameter and buffer, brought over at once: comparing them on a device costs a wait each."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()}


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are equal to the bit; a NaN equals itself."""
    return torch.equal(left, right) or (
        torch.equal(left.isnan(), right.isnan()) and torch.equal(left.nan_to_num(), right.nan_to_num())
    )


def _names(group: dict[str, Any], module: Any) -> list[str]:
    ids = {id(parameter) for parameter in group["params"]}
    return [name for name, parameter in module.named_parameters() if id(parameter) in ids]


def _listed(names: list[str]) -> str:
    short = [name.removeprefix("network.") for name in names]
    return ", ".join(short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")
