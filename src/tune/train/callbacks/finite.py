from __future__ import annotations

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
    names: list[list[str]] = field(default_factory=list)
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
        self.trained: list[tuple[str, Tensor]] = []
        self.before: _Looks | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.trained = []  # the phase is entered behind this hook

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.now = _Looks(Place(trainer.current_epoch, trainer.global_step, batch_idx, batch))
        self.passes = 0
        # Kept for the epoch: walking through all modules takes a tenth of a step of a head alone.
        self.trained = self.trained or [(n, p) for n, p in pl_module.named_parameters() if p.requires_grad]

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        self.loss = loss.detach()

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.passes += 1
        if self.passes > 1 and isinstance(trainer.optimizers[0], LBFGS):
            return
        grads = {name: p.grad for name, p in self.trained if p.grad is not None and trainer.precision != "16-mixed"}
        if pl_module.device.type == "cpu":
            norms = torch._foreach_norm(list(grads.values())) if grads else ()
            if torch.stack([self.loss, *norms]).sum().isfinite():  # 30 times as fast as a look at each number
                return
            bad = [name for name, grad in grads.items() if not grad.isfinite().all()]
            self._judge(trainer, pl_module, self.now.place, bool(self.loss.isfinite()), bad)
        else:
            largest = torch._foreach_norm(list(grads.values()), float("inf")) if grads else ()
            finite = torch.stack([self.loss, *largest]).isfinite()
            self.now.names.append(list(grads))
            self.now.finite.append(finite.to("cpu", non_blocking=True) if finite.is_cuda else finite)
            if finite.is_cuda:
                self.now.done.append(torch.cuda.current_stream().record_event())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._settle(trainer, pl_module)
        self.before = self.now

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._settle(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        values = trainer.callback_metrics
        if not all(bool(torch.isfinite(value)) for name, value in values.items() if name.endswith("/loss")):
            raise Diverged(no_longer_finite(trainer.current_epoch, ", validation"))

    def _settle(self, trainer: Any, learner: Any) -> None:
        """Look at what the batch before gave, on a device."""
        looks, self.before = self.before, None
        if looks is None:
            return
        for event in looks.done:
            event.synchronize()  # of the copy alone: the device goes on with the next batch
        for names, finite in zip(looks.names, looks.finite, strict=True):
            loss, *grads = finite.tolist()
            bad = [name for name, fine in zip(names, grads, strict=True) if not fine]
            self._judge(trainer, learner, looks.place, loss, bad)

    def _judge(self, trainer: Any, learner: Any, place: Place, is_loss_finite: bool, bad: list[str]) -> None:
        if is_loss_finite and not bad:
            return
        if bad and trainer.global_rank:
            return  # gradients are means over all ranks: rank 0 sees it too, tells it and ends the others
        raise Diverged(told(trainer, learner, place, is_loss_finite, bad))


def no_longer_finite(epoch: int, place: str) -> str:
    """Why a run ended in an epoch, counted from 0; `place` says where in it."""
    return f"the loss is no longer a finite number (epoch {epoch + 1}{place}). Try a smaller lr, or gradient clipping"
