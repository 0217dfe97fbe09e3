"""How far two runs of one config came out alike: their weights and their metrics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from tune.run_dir import read_json


@dataclass(frozen=True)
class Compared:
    """What is not equal.

    Args:
        tensors: that both files of weights hold.
        differing: names of those that are not equal to the bit.
        weights: largest difference of a number in them.
        digests: sha256 of both files.
        metrics: name → (then, now) of every metric that both have.
    """

    tensors: int
    differing: list[str]
    weights: float
    digests: tuple[str, str]
    metrics: dict[str, tuple[float, float]]

    @property
    def is_exact(self) -> bool:
        """Whether all is equal to the bit."""
        return not self.differing and all(then == now for then, now in self.metrics.values())


def compare(run_dir: Path, other: Path) -> Compared:
    """Two finished runs; tensors that only one of them keeps are passed over, as trials of a sweep leave some out."""
    one, two = (load_file(path / "model.safetensors") for path in (run_dir, other))
    names = [name for name in one if name in two]
    differing = [name for name in names if not torch.equal(one[name], two[name])]
    largest = max((float((one[name].double() - two[name].double()).abs().max()) for name in differing), default=0.0)
    then, now = (read_json(path / "run.json")["metrics"] for path in (run_dir, other))
    metrics = {name: (then[name], now[name]) for name in then if then[name] is not None and now.get(name) is not None}
    return Compared(len(names), differing, largest, (_digest(run_dir), _digest(other)), metrics)


def _digest(run_dir: Path) -> str:
    return hashlib.sha256((run_dir / "model.safetensors").read_bytes()).hexdigest()
