"""Lightning's Trainer, from the `trainer` node and what we own: epochs, precision, callbacks, loggers, files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, final

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.plugins.io.wrapper import _WrappingCheckpointIO

from tune.errors import ConfigError, Problem
from tune.run_dir import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning.callbacks import Callback
    from pytorch_lightning.loggers import Logger


@final
class AtomicCheckpointIO(_WrappingCheckpointIO):
    """Checkpoints that survive a kill and a full disk: whole or not there; read without running any code in them.

    It wraps nothing, but Lightning's XLA strategy takes no other kind of plugin beside its own. Tensors are written
    from the CPU, so that a machine without the device can read them.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(apply_to_collection(checkpoint, torch.Tensor, lambda tensor: tensor.detach().cpu()), buffer)
        atomic_write(path, buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        path.unlink()


def world_size(node: dict[str, Any]) -> int:
    """Number of processes that a `trainer` node asks for: its devices, where the strategy is distributed."""
    if not str(node.get("strategy", "")).startswith("ddp"):
        return 1
    devices = node.get("devices", 1)
    if devices in ("auto", -1, "-1"):
        return max(1, torch.cuda.device_count())
    return len(devices) if isinstance(devices, list) else int(devices)


def device_type(node: dict[str, Any]) -> str:
    """Device type ("cpu", "cuda", "xla", "mps") that a `trainer` node means on this machine.

    Raises:
        ConfigError: if it is not there.
    """
    from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator, XLAAccelerator

    asked = node.get("accelerator", "auto")
    there = {"cuda": CUDAAccelerator, "mps": MPSAccelerator, "xla": XLAAccelerator}
    if asked == "auto":
        return next((name for name in ("xla", "cuda", "mps") if there[name].is_available()), "cpu")
    if asked == "gpu":
        found = next((name for name in ("cuda", "mps") if there[name].is_available()), "")
    else:
        found = {"tpu": "xla"}.get(asked, asked)
        if found in there and not there[found].is_available():
            found = ""
    if not found:
        text = (
            f"{asked} is not to be had on this machine. trainer=auto takes the best there is, trainer=cpu always runs."
        )
        raise ConfigError(Problem("trainer.accelerator", text))
    return found


def build_trainer(
    node: dict[str, Any], *, epochs: int, precision: str, callbacks: list[Callback], loggers: list[Logger], root: Path
) -> Trainer:
    """Make the Trainer of a run.

    Args:
        node: the plain `trainer` node; `accumulate_grad_batches`, `gradient_clip_val` and the like pass through.
        epochs: total number of epochs.
        precision: for Lightning.
        callbacks: in the order in which they act.
        loggers: none is fine, metrics.csv is a callback.
        root: the run folder.
    """
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    plugins: list = [AtomicCheckpointIO()]
    if world_size(node) > 1:
        plugins.append(LightningEnvironment())  # the ranks are ours, see ranks.py
    return Trainer(
        **arguments,
        max_epochs=epochs,
        precision=precision,  # type: ignore[arg-type]
        callbacks=callbacks,
        logger=loggers or False,
        default_root_dir=root,
        plugins=plugins,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
