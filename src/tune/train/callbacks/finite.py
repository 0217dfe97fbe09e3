from __future__ import annotations

from typing import Any, final

import torch
from pytorch_lightning.callbacks import Callback

from tune.errors import Diverged


@final
class FiniteLoss(Callback):
    """Ends the run when the loss is NaN or infinite.

    Every step is looked at on the CPU. Elsewhere a look costs a wait for the device, so the steps are remembered
    there and looked at once an epoch.
    """

    def __init__(self) -> None:
        self.finite: torch.Tensor | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.finite = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        finite = torch.isfinite(outputs["loss"].detach())
        if pl_module.device.type == "cpu":
            if not finite:
                raise Diverged(no_longer_finite(trainer.current_epoch, f", step {trainer.global_step}"))
        else:
            self.finite = finite if self.finite is None else self.finite & finite

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.finite is not None and not bool(self.finite):
            raise Diverged(no_longer_finite(trainer.current_epoch, ""))
        values = trainer.callback_metrics
        if not all(bool(torch.isfinite(value)) for name, value in values.items() if name.endswith("/loss")):
            raise Diverged(no_longer_finite(trainer.current_epoch, ", validation"))


def no_longer_finite(epoch: int, place: str) -> str:
    """Why a run ended in an epoch, counted from 0; `place` says where in it."""
    return f"the loss is no longer a finite number (epoch {epoch + 1}{place}). Try a smaller lr, or gradient clipping"
