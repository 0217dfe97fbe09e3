"""A finished run, ready to be used: its network, the transform of its images, the names of its classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from tune.config import gate
from tune.config.build import build, locate
from tune.data.transforms import InputTransform
from tune.errors import ConfigError, Problem
from tune.evaluate.threshold import decide
from tune.models.network import Network
from tune.models.weights_file import WeightsFile, describe, load_weights
from tune.run_dir import find_run

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loaded:
    """What `tune.load` gives.

    Args:
        network: in eval mode, on the CPU; images (B, 3, H, W) → `Output`.
        transform: file, array or Pillow image → (3, H, W), as the network wants it.
        classes: K names.
        threshold: of two classes, the second one's probability above which it is decided for; None: the likeliest.
        run_dir: where it was loaded from.
    """

    network: Network
    transform: InputTransform
    classes: list[str]
    threshold: float | None
    run_dir: Path

    def predict(self, images: Iterable[Any], batch_size: int = 32) -> Tensor:
        """Probabilities (N, K) of files, uint8 arrays (H, W[, 3]) or Pillow images."""
        rows = list(images)
        device = next(self.network.parameters()).device
        found = []
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                batch = torch.stack([self.transform(row) for row in rows[start : start + batch_size]])
                found.append(self.network(batch.to(device)).logits.softmax(dim=1).cpu())
        return torch.cat(found) if found else torch.empty(0, len(self.classes))

    def classify(self, images: Iterable[Any], batch_size: int = 32) -> list[str]:
        """The class of each of N images, as `predict` takes them, by the threshold where the run has one."""
        return [self.classes[number] for number in decide(self.predict(images, batch_size), self.threshold).tolist()]


def load(run: str | Path, output: str | Path = "outputs", allow: Sequence[str] = ()) -> Loaded:
    """See `tune.load`.

    Raises:
        ConfigError: if there is no such run, or its config names a module that is not allowed.
    """
    run_dir = find_run(str(run), output)
    file = run_dir / "model.yaml"
    if not file.is_file() or not (run_dir / "model.safetensors").is_file():
        raise ConfigError(Problem(str(run_dir), "has no trained weights yet"))
    description = yaml.safe_load(file.read_text())
    if problems := gate.problems(description, gate.allowed_by_user(allow)):
        raise ConfigError(*problems)
    backbone = build(description["backbone"], output=description["output"])
    if description["partial"] and backbone.weights_digest != description["weights"]["digest"]:
        text = f"the frozen weights it was trained on ({description['weights']['source']}) have changed"
        raise ConfigError(Problem(str(run_dir), text))
    facts = {"feature_dim": description["feature_dim"], "num_classes": len(description["classes"]), "dropout": 0.0}
    network = Network(backbone, build(description["head"], **facts))
    load_weights(run_dir, network)
    spec = description["input"]
    transform = InputTransform(spec["size"], spec["mean"], spec["std"], spec["interpolation"], spec["fit"])
    return Loaded(network.eval(), transform, description["classes"], description["threshold"], run_dir)


def complete(run_dir: Path, allow: Sequence[str] = ()) -> None:
    """Make the weights file of a trial whole: add what was frozen and left out."""
    description = yaml.safe_load((run_dir / "model.yaml").read_text())
    if description["partial"]:
        WeightsFile(run_dir).write(load(run_dir, allow=allow).network)
        description |= {"partial": False, "output": "", "backbone": without_source(description["backbone"])}
        describe(run_dir, description)


def without_source(node: dict[str, Any]) -> dict[str, Any]:
    """A `backbone` node that builds the backbone without looking for weights; one of your own may take no such key."""
    takes_weights = "weights" in inspect.signature(locate(node["_target_"])).parameters
    return {**node, "weights": "none"} if takes_weights else dict(node)
