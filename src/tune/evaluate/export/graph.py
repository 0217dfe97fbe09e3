"""The network as it is handed on: pixels in, probabilities out, normalised inside; and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final

import torch
import yaml
from torch import nn

from tune import __version__
from tune.errors import ConfigError, Problem
from tune.models.interface import FittedHead
from tune.run_dir import run_id

if TYPE_CHECKING:
    from torch import Tensor

    from tune.data.tasks.task import Task
    from tune.evaluate.loaded import Loaded
    from tune.models.network import Network

INPUT = "images"
FORM = "float32 (B, 3, H, W), RGB, 0 to 1: decoded and resized, not normalised"


@final
class Exported(nn.Module):
    """Images (B, 3, H, W) of pixels 0-1 → probabilities (B, K), logits (B, K), then the answer to each task.

    Of a task: probabilities (B, its classes or labels), or numbers (B,) in the unit of the column.

    Args:
        network: of a run.
        tasks: of the run.
        mean: of each channel (C, 1, 1), pixels 0-1.
        std: of each channel (C, 1, 1).
    """

    def __init__(self, network: Network, tasks: Mapping[str, Task], mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.backbone, self.align, self.head = network.backbone, network.align, network.head
        self.tasks = dict(tasks)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.mean: Tensor
        self.std: Tensor
        self.eval()

    @property
    def outputs(self) -> list[str]:
        """Names of what it gives, in order; that of a task is its own."""
        return ["probabilities", "logits", *self.tasks]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone((images - self.mean) / self.std)
        embedding, logits = self.head(features if self.align is None else self.align(features))
        said = self.head.tasks(embedding)
        answers = []
        for name, task in self.tasks.items():
            if task.kind == "regression":
                answers.append(said[name][:, 0] * task.scale + task.centre)
            else:
                answers.append(said[name].softmax(dim=1) if task.kind == "classification" else said[name].sigmoid())
        return logits.softmax(dim=1), logits, *answers


def graph_of(loaded: Loaded) -> Exported:
    """The graph of a run.

    Raises:
        ConfigError: if its head is no graph of tensors.
    """
    if isinstance(loaded.network.head, FittedHead):
        text = "is fitted by scikit-learn, which no graph holds: --format safetensors, or tune predict"
        raise ConfigError(Problem("head", text))
    return Exported(loaded.network, loaded.tasks, loaded.transform.mean, loaded.transform.std)


def facts(loaded: Loaded, outputs: list[str]) -> dict[str, str]:
    """What a user of the file must know, as texts; lists and mappings are JSON."""
    described = yaml.safe_load((loaded.run_dir / "model.yaml").read_text())
    spec, tasks = described["input"], described["tasks"]
    return {
        "tune": __version__,
        "run": run_id(loaded.run_dir),
        "input": FORM,
        "size": json.dumps(spec["size"]),
        "resize": json.dumps({"fit": spec["fit"], "interpolation": spec["interpolation"], "antialias": True}),
        "normalisation": json.dumps({"mean": spec["mean"], "std": spec["std"], "inside": "probabilities" in outputs}),
        "classes": json.dumps(loaded.classes),
        "threshold": json.dumps(loaded.threshold),
        "outputs": json.dumps(outputs),
        "tasks": json.dumps({name: {key: task[key] for key in ("kind", "classes")} for name, task in tasks.items()}),
        "weights": described["weights"]["source"],
    }


def example(loaded: Loaded) -> Tensor:
    """Two images of grey, from which a graph is traced; a batch of one would be taken for the only size."""
    return torch.full((2, 3, *loaded.transform.size), 0.5)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write a file under; it takes its place when it is whole."""
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
