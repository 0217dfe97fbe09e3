from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback
from torch.optim import LBFGS

from tune.errors import Diverged
from tune.train.callbacks.origin import Place, told

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class _Looks:
    """What the passes over one batch gave, on a device: of each, whether the loss and each gradient are finite."""

    place: Place
    finite: list[Tensor] = field(default_factory=list)
    done: list[Any] = field(default_factory=list)


@final
class FiniteLoss(Callback):
    """Ends the run with the first batch whose loss, or whose gradient, is NaN or infinite.

    On the CPU that is before its step is taken, so that the weights are still finite. Elsewhere a look costs a wait
    for the device: what a batch gave is copied while the device works on the next one, and looked at behind that.

    In 16-mixed only the loss counts: its scale is found by letting gradients overflow, and no step is taken with
    those. Of the many passes of a step of L-BFGS only the first counts; the others try how far to go.
    """

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.before: _Looks | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        # Asked once an epoch: together they take a share of a step of a head alone.
        self.is_cpu, self.is_scaled = pl_module.device.type == "cpu", trainer.precision == "16-mixed"
        self.probes = isinstance(trainer.optimizers[0], LBFGS)
        self.trained = []  # the phase is entered behind this hook

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not self.trained and not self.is_scaled:
            groups = trainer.optimizers[0].param_groups
            self.trained = [p for group in groups for p in group["params"] if p.requires_grad]
        self.batch, self.number, self.passes = batch, batch_idx, 0
        if not self.is_cpu:
            self.now = _Looks(self._place(trainer))

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        self.loss = loss.detach()

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.passes += 1
        if self.passes > 1 and self.probes:
            return
        grads = [p.grad for p in self.trained if p.grad is not None]
        if self.is_cpu:
            norms = torch._foreach_norm(grads) if grads else ()
            # Numbers one by one: of a few tensors that is a third of the time that their sum as a tensor takes.
            if not math.isfinite(self.loss.item() + sum(norm.item() for norm in norms)):
                fine = [bool(each.isfinite().all()) for each in (self.loss, *grads)]  # a norm may overflow by itself
                self._judge(trainer, pl_module, self._place(trainer), fine)
        else:
            largest = torch._foreach_norm(grads, float("inf")) if grads else ()
            finite = torch.stack([self.loss, *largest]).isfinite()
            self.now.finite.append(finite.to("cpu", non_blocking=True) if finite.is_cuda else finite)
            if finite.is_cuda:
                self.now.done.append(torch.cuda.current_stream().record_event())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.is_cpu:
            self._settle(trainer, pl_module)
            self.before = self.now

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._settle(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        values = trainer.callback_metrics
        if not all(bool(torch.isfinite(value)) for name, value in values.items() if name.endswith("/loss")):
            raise Diverged(no_longer_finite(trainer.current_epoch, ", validation"))

    def _place(self, trainer: Any) -> Place:
        return Place(trainer.current_epoch, trainer.global_step, self.number, self.batch)

    def _settle(self, trainer: Any, learner: Any) -> None:
        """Look at what the batch before gave, on a device."""
        looks, self.before = self.before, None
        if looks is None:
            return
        for event in looks.done:
            event.synchronize()  # of the copy alone: the device goes on with the next batch
        for finite in looks.finite:
            self._judge(trainer, learner, looks.place, finite.tolist())

    def _judge(self, trainer: Any, learner: Any, place: Place, fine: list[bool]) -> None:
        """End the run, unless the loss (first) and the gradients of all that trains are fine."""
        if all(fine):
            return
        if not all(fine[1:]) and trainer.global_rank:
            return  # gradients are means over all ranks: rank 0 sees it too, tells it and ends the others
        names = {parameter: name for name, parameter in learner.named_parameters()}
        used = [parameter for parameter in self.trained if parameter.grad is not None]
        bad = [names[parameter] for parameter, is_fine in zip(used, fine[1:], strict=True) if not is_fine]
        raise Diverged(told(trainer, learner, place, fine[0], bad))


def no_longer_finite(epoch: int, place: str) -> str:
    """Why a run ended in an epoch, counted from 0; `place` says where in it."""
    return f"the loss is no longer a finite number (epoch {epoch + 1}{place}). Try a smaller lr, or gradient clipping"
