"""Steps of a run's own training that leave no trace: the network, the draws and the files are as before.

with untouched(prepared):
    train_steps(prepared, 20, [Watch()])
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback

from tune.train.adapt.sight import LearnerSight
from tune.train.callbacks.loggers import silent_lightning
from tune.train.devices.trainer import build_trainer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tune.train.prepare import Prepared


def train_steps(prepared: Prepared, steps: int, callbacks: Sequence[Callback] = ()) -> None:
    """Train as the run would, from its first epoch on, at a constant rate and without validation.

    What a frozen part says of the images is computed once and kept, as the run keeps it; but of no more rows than come.

    Args:
        prepared: the run; trained in place.
        steps: of the optimizer.
        callbacks: Lightning's, in the order in which they act; `trainer.should_stop` ends it earlier.
    """
    learner, data, config = prepared.learner, prepared.data, prepared.config
    schedule, learner.make_schedule = learner.make_schedule, _constant
    sight = LearnerSight(prepared)
    prepared.frozen.keep(data.first_rows(steps * data.accumulate))
    accelerator = {"cuda": "gpu", "xla": "tpu"}.get(prepared.device, prepared.device)
    node = {**config["trainer"], "accelerator": accelerator, "limit_val_batches": 0}
    with tempfile.TemporaryDirectory() as folder, silent_lightning():
        trainer = build_trainer(
            node,
            # As many as the run has, since what a transfer method does may depend on the share that is behind it.
            epochs=max(config["epochs"], -(-steps // data.steps_per_epoch)),
            precision=prepared.precision.trainer,
            callbacks=[*callbacks, _Stop(steps)],
            loggers=[],
            root=Path(folder),
        )
        try:
            learner.transfer.prepare(sight)
            learner.sight = sight
            trainer.fit(learner, datamodule=data)
        finally:
            learner.make_schedule, learner.sight = schedule, None


@contextlib.contextmanager
def untouched(prepared: Prepared) -> Iterator[None]:
    """Whatever happens within: weights, statistics of norms, modes, the phase and every generator are put back."""
    learner = prepared.learner
    # Tensors outside of state_dict count too: a plain attribute of a loss, a buffer that is not saved.
    kept = {name: tensor.detach().clone() for name, tensor in _tensors(learner)}
    modes = {name: module.training for name, module in learner.named_modules()}
    drawn = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    on_gpu = torch.cuda.get_rng_state_all() if prepared.device == "cuda" else []
    phase = learner.phase
    try:
        yield
    finally:
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)
        learner.enter(phase)
        with torch.no_grad():
            for name, tensor in _tensors(learner):
                tensor.copy_(kept[name])
                tensor.grad = None
        for name, module in learner.named_modules():
            module.training = modes[name]
        learner.plateau = None


@final
class _Stop(Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= self.steps:
            trainer.should_stop = True


def _tensors(learner: Any) -> Iterator[tuple[str, torch.Tensor]]:
    yield from learner.named_parameters()
    yield from learner.named_buffers()


def _constant(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Lightning's schedule dictionary of a rate that stays as it is."""
    return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0), "interval": "step"}
