"""Averages of the weights along the way, which validation, test and the result use; training goes on with its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback

if TYPE_CHECKING:
    from torch import Tensor, nn


@final
class Average(Callback):
    """Puts the average in the place of the weights before each validation, and the weights back before each epoch.

    - Exponential: ``a = d * a + (1 - d) * w`` after each step, d = min(decay, (1 + n) / (10 + n)) in step n, from 1.
      Polyak and Juditsky 1992; the warm-up of d is TensorFlow's.
    - Of epochs: the mean of the weights at the ends of the last `epochs` ones. Izmailov et al. 2018, "Averaging Weights
      Leads to Wider Optima", algorithm 1. They compute the statistics of batch norms anew from the data, we average
      them too.

    Args:
        decay: of the exponential average; 0 for none.
        epochs: number of last epochs to average; 0 for none.
    """

    def __init__(self, decay: float, epochs: int) -> None:
        self.decay, self.epochs = decay, epochs
        self.number = 0  # of weights in the average
        self.average: dict[str, Tensor] = {}
        self.own: dict[str, Tensor] = {}  # the weights, while the average stands in their place

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number, "average": self.average, "own": self.own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.number, self.average, self.own = state_dict["number"], state_dict["average"], state_dict["own"]

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        _put(pl_module.network, self.own)
        self.own = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.decay and trainer.global_step > self.number:  # not in the middle of accumulated batches
            step = trainer.global_step
            self._add(pl_module.network, 1 - min(self.decay, (1 + step) / (10 + step)))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if not self.decay and trainer.current_epoch >= trainer.max_epochs - self.epochs:
            self._add(pl_module.network, 1 / (self.number + 1))
        if self.average:
            self.own = {name: tensor.detach().clone() for name, tensor in _moving(pl_module.network).items()}
            _put(pl_module.network, self.average)

    @torch.no_grad()
    def _add(self, network: nn.Module, share: float) -> None:
        self.number += 1
        for name, tensor in _moving(network).items():
            if name in self.average:
                self.average[name] = self.average[name].to(tensor.device).lerp_(tensor, share)
            else:
                self.average[name] = tensor.detach().clone()


def _moving(network: nn.Module) -> dict[str, Tensor]:
    """What training moves: trainable parameters, and the statistics of norms, which are floating-point buffers."""
    tensors = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    return tensors | {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point()}


@torch.no_grad()
def _put(network: nn.Module, values: dict[str, Tensor]) -> None:
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, value in values.items():
        tensors[name].copy_(value)
