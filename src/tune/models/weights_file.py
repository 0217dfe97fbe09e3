"""model.safetensors and model.yaml: the network of a run, for whoever uses it later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save

from tune.errors import RunError
from tune.run_dir import atomic_write, write_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


@final
class WeightsFile:
    """Writes the weights of a run, whole or without what never changes.

    Args:
        run_dir: the run folder.
        frozen: names of the tensors that never change in this run; left out of the file. Empty keeps everything.
    """

    def __init__(self, run_dir: Path, frozen: frozenset[str] = frozenset()) -> None:
        self.path, self.frozen = run_dir / "model.safetensors", frozen

    def write(self, network: nn.Module) -> None:
        """Write what is not frozen, contiguous and on the CPU."""
        kept = {name: tensor for name, tensor in network.state_dict().items() if name not in self.frozen}
        # A copy of each, because safetensors refuses tensors that share memory.
        copies = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in kept.items()
        }
        atomic_write(self.path, save(copies, {"format": "pt"}))


def describe(run_dir: Path, description: dict[str, Any]) -> None:
    """Write model.yaml, from which `tune.load` rebuilds the network."""
    write_yaml(run_dir / "model.yaml", description)


def stored_names(run_dir: Path) -> list[str]:
    """Names of the tensors that the file of a run holds."""
    with safe_open(run_dir / "model.safetensors", "pt") as file:
        return list(file.keys())


def note_threshold(run_dir: Path, threshold: float | None) -> None:
    """Write into model.yaml by which threshold the best weights decide; None leaves it as it is."""
    if threshold is not None:
        described = yaml.safe_load((run_dir / "model.yaml").read_text())
        describe(run_dir, described | {"threshold": threshold})


def load_weights(run_dir: Path, network: nn.Module) -> None:
    """Put the weights of a run into a network of the same shape, which holds those that are left out already.

    Raises:
        RunError: if the file holds tensors that the network has not.
    """
    stored: dict[str, Tensor] = load_file(run_dir / "model.safetensors")
    result = network.load_state_dict(stored, strict=False)
    if result.unexpected_keys:
        raise RunError(f"{run_dir / 'model.safetensors'}: not of this network: {', '.join(result.unexpected_keys[:5])}")
