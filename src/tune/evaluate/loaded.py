"""A finished run, ready to be used: its network, the transform of its images, the names of its classes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from tune.config import gate
from tune.config.build import build, locate
from tune.data.tasks.task import Task
from tune.data.transforms import InputTransform
from tune.errors import ConfigError, Problem
from tune.evaluate.ensemble import Recipe
from tune.evaluate.tasks import answer
from tune.evaluate.threshold import decide
from tune.models.network import Network
from tune.models.weights_file import WeightsFile, describe, load_weights, stored_names
from tune.run_dir import find_run, read_json

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Output
    from tune.models.interface import Backbone


@dataclass(frozen=True)
class Loaded:
    """What `tune.load` gives.

    Args:
        network: in eval mode, on the CPU; images (B, 3, H, W) → `Output`.
        transform: file, array or Pillow image → (3, H, W), as the network wants it.
        classes: K names.
        threshold: of two classes, the second one's probability above which it is decided for; None: the likeliest.
        run_dir: where it was loaded from.
        tasks: what it tells beside the label, by name.
    """

    network: Network
    transform: InputTransform
    classes: list[str]
    threshold: float | None
    run_dir: Path
    tasks: dict[str, Task] = field(default_factory=dict)

    def predict(self, images: Iterable[Any], batch_size: int = 32) -> Tensor:
        """Probabilities (N, K) of files, uint8 arrays (H, W[, 3]) or Pillow images."""
        found = [output.logits.softmax(dim=1).cpu() for output in self._outputs(images, batch_size)]
        return torch.cat(found) if found else torch.empty(0, len(self.classes))

    def classify(self, images: Iterable[Any], batch_size: int = 32) -> list[str]:
        """The class of each of N images, as `predict` takes them, by the threshold where the run has one."""
        return [self.classes[number] for number in decide(self.predict(images, batch_size), self.threshold).tolist()]

    def predict_tasks(self, images: Iterable[Any], batch_size: int = 32) -> dict[str, Tensor]:
        """Of each task: probabilities (N, K) in the order of its classes, or numbers (N,) in the unit of its column."""
        found = [output.tasks for output in self._outputs(images, batch_size)]
        empty = {name: torch.empty(0, task.num_outputs) for name, task in self.tasks.items()}
        said = {name: torch.cat([empty[name], *(each[name].cpu() for each in found)]) for name in self.tasks}
        return {name: answer(task, said[name]) for name, task in self.tasks.items()}

    def _outputs(self, images: Iterable[Any], batch_size: int) -> Iterator[Output]:
        rows = list(images)
        device = next(self.network.parameters()).device
        for start in range(0, len(rows), batch_size):
            batch = torch.stack([self.transform(row) for row in rows[start : start + batch_size]])
            with torch.inference_mode():
                yield self.network(batch.to(device))


@dataclass(frozen=True)
class LoadedEnsemble:
    """What `tune.load` gives of an ensemble, but a soup, which is one network.

    Args:
        members: its runs; those on one frozen backbone share it.
        recipe: how they decide together.
        classes: K names.
        run_dir: where it was loaded from.
    """

    members: list[Loaded]
    recipe: Recipe
    classes: list[str]
    run_dir: Path

    def predict(self, images: Iterable[Any], batch_size: int = 32) -> Tensor:
        """Probabilities (N, K) of files, uint8 arrays (H, W[, 3]) or Pillow images."""
        rows, found = list(images), []
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                features: dict[int, Tensor] = {}
                probs = []
                for member in self.members:
                    network = member.network
                    if id(network.backbone) not in features:
                        batch = torch.stack([member.transform(row) for row in rows[start : start + batch_size]])
                        device = next(network.parameters()).device
                        features[id(network.backbone)] = network.backbone(batch.to(device))
                    probs.append(network.judge(features[id(network.backbone)]).logits.softmax(dim=1).cpu())
                found.append(self.recipe.apply(torch.stack(probs)))
        return torch.cat(found) if found else torch.empty(0, len(self.classes))

    def classify(self, images: Iterable[Any], batch_size: int = 32) -> list[str]:
        """The class of each of N images, as `predict` takes them, the likeliest."""
        return [self.classes[number] for number in decide(self.predict(images, batch_size), None).tolist()]


def load(run: str | Path, output: str | Path = "outputs", allow: Sequence[str] = ()) -> Loaded | LoadedEnsemble:
    """See `tune.load`.

    Raises:
        ConfigError: if there is no such run, or its config names a module that is not allowed.
    """
    run_dir = find_run(str(run), output)
    if not (run_dir / "ensemble.json").is_file():
        return load_run(run_dir, allow)
    node = read_json(run_dir / "ensemble.json")
    known: dict[str, Backbone] = {}
    members = [load_run(find_run(place, output), allow, known) for place in node.pop("members")]
    return LoadedEnsemble(members, Recipe(**node), members[0].classes, run_dir)


def load_run(run_dir: Path, allow: Sequence[str] = (), known: dict[str, Backbone] | None = None) -> Loaded:
    """The network of one run.

    Args:
        run_dir: its folder.
        allow: modules of the user's that its config may name.
        known: frozen backbones that were built before, by what they are; one more is added.

    Raises:
        ConfigError: if it has no weights, or its config names a module that is not allowed.
    """
    file = run_dir / "model.yaml"
    if not file.is_file() or not (run_dir / "model.safetensors").is_file():
        text = "has no trained weights yet, or its sweep was to keep none of them (sweep.keep)"
        raise ConfigError(Problem(str(run_dir), text))
    description = yaml.safe_load(file.read_text())
    if problems := gate.problems(description, gate.allowed_by_user(allow)):
        raise ConfigError(*problems)
    key = json.dumps([description["backbone"], description["weights"], description["input"]], sort_keys=True)
    is_frozen = description["partial"] and all(name.startswith("head.") for name in stored_names(run_dir))
    if known is not None and is_frozen and key in known:
        backbone = known[key]
    else:
        backbone = build(description["backbone"], output=description["output"])
        if known is not None and is_frozen:
            known[key] = backbone
    if description["partial"] and backbone.weights_digest != description["weights"]["digest"]:
        text = f"the frozen weights it was trained on ({description['weights']['source']}) have changed"
        raise ConfigError(Problem(str(run_dir), text))
    tasks = {name: Task(**task) for name, task in description["tasks"].items()}
    facts = {"feature_dim": description["feature_dim"], "num_classes": len(description["classes"]), "dropout": 0.0}
    outputs = {name: task.num_outputs for name, task in tasks.items()}
    network = Network(backbone, build(description["head"], **facts, tasks=outputs), aligned=description["aligned"])
    load_weights(run_dir, network)
    spec = description["input"]
    transform = InputTransform(spec["size"], spec["mean"], spec["std"], spec["interpolation"], spec["fit"])
    threshold = description["threshold"]
    return Loaded(network.eval(), transform, description["classes"], threshold, run_dir, tasks)


def complete(run_dir: Path, allow: Sequence[str] = ()) -> None:
    """Make the weights file of a trial whole: add what was frozen and left out."""
    description = yaml.safe_load((run_dir / "model.yaml").read_text())
    if description["partial"]:
        WeightsFile(run_dir).write(load_run(run_dir, allow).network)
        description |= {"partial": False, "output": "", "backbone": without_source(description["backbone"])}
        describe(run_dir, description)


def without_source(node: dict[str, Any]) -> dict[str, Any]:
    """A `backbone` node that builds the backbone without looking for weights; one of your own may take no such key."""
    inner = {
        key: without_source(value) for key, value in node.items() if isinstance(value, dict) and "_target_" in value
    }
    takes_weights = "weights" in inspect.signature(locate(node["_target_"])).parameters
    return {**node, **inner, **({"weights": "none"} if takes_weights else {})}
