"""Who teaches: a finished run, or a backbone as it was published.

It sees each training image once, as it is, in its own size; what it said is looked up by `batch.index`. So with
augmentation the student is held to what the teacher says of the plain image. Beyer et al. 2022, "Knowledge
distillation: A good teacher is patient and consistent", found that worse than a teacher who sees the very view that the
student sees, given thousands of epochs; here it saves a forward pass of the larger network in every step.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from tune.data.transforms import InputTransform
from tune.errors import ConfigError, Problem
from tune.evaluate.loaded import load_run
from tune.models.interface import Backbone
from tune.run_dir import find_run, read_json, run_id

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tune.batch import Output
    from tune.data.module import ImageData
    from tune.models.network import Network
    from tune.transfer.interface import Sight

KEY = "transfer.teacher"


@final
@dataclass(frozen=True)
class Teacher:
    """One that can be asked.

    Args:
        about: what it is, in a few words.
        backbone: its own.
        transform: from an image to what its backbone takes.
        network: all of it; None for a backbone alone.
        classes: what its logits are of; none for a backbone alone.
        run_dir: of the run; None for a backbone alone.
    """

    about: str
    backbone: Backbone
    transform: InputTransform
    network: Network | None = None
    classes: tuple[str, ...] = ()
    run_dir: Path | None = None

    def columns(self, classes: list[str]) -> list[int]:
        """Where among its logits those of some classes stand, in their order.

        Raises:
            ConfigError: if it knows other classes.
        """
        if set(self.classes) != set(classes):
            text = (
                f"{self.about} tells {_listed(self.classes)}; the data have {_listed(classes)}. They must be the same"
            )
            raise ConfigError(Problem(KEY, text))
        return [self.classes.index(name) for name in classes]

    def ask(self, sight: Sight) -> tuple[Tensor, Tensor]:
        """Rows of the data table (N,), those that train, and features (N, D) of each."""
        return sight.ask(self.backbone, self.transform, self.about)

    @torch.no_grad()
    def judge(self, features: Tensor) -> Output:
        """Embedding and logits of features (N, D), of a run."""
        assert self.network is not None
        return self.network.judge(features)

    def notes(self, data: ImageData) -> list[str]:
        """What the user should know of a run that learned from the same rows, split in another way."""
        if self.run_dir is None:
            return []
        if read_json(self.run_dir / "run.json")["data"]["fingerprint"] != data.table.fingerprint():
            return []
        unseen = {row for part in ("val", "test") for row in _rows(self.run_dir / "predictions" / f"{part}.csv")}
        seen = sum(row not in unseen for row in data.parts.test.tolist())
        if not seen:
            return []
        text = (
            f"note: {seen} of this run's {len(data.parts.test)} test rows may have trained the teacher, which flatters"
        )
        return [f"{text} the result: its split was another (data.split.seed)"]


def find_teacher(named: Any, data: ImageData, output: str) -> Teacher:
    """The teacher that a config names.

    Args:
        named: a backbone, or "run:" and a run's id, folder, or "latest".
        data: of the run that learns from it.
        output: folder below which runs are looked for.

    Raises:
        ConfigError: if it cannot teach.
    """
    if isinstance(named, Backbone):
        if not named.weights_digest:
            raise ConfigError(
                Problem(f"{KEY}.weights", "random weights have nothing to teach: take package, hub, run:ID or a file")
            )
        spec = named.input
        transform = InputTransform(spec.size, spec.mean, spec.std, spec.interpolation, data.fit)
        return Teacher(named.weights_source, named, transform)
    if not isinstance(named, str) or not named.startswith("run:"):
        text = "takes a finished run (run:ID, run:latest, run:FOLDER)"
        advice = "or a backbone, by backbone@transfer.teacher=efficientnet_lite2"
        raise ConfigError(Problem(KEY, f"{text}, {advice}; not {named!r}"))
    try:
        return _of_run(find_run(named.removeprefix("run:"), output))
    except ConfigError as error:
        told = [problem.text if problem.key == KEY else f"{problem.key}: {problem.text}" for problem in error.problems]
        raise ConfigError(*(Problem(KEY, text) for text in told)) from error


def by_row(index: Tensor, said: Tensor, rows: int) -> Tensor:
    """A table (rows, …) of what was said of some of them (N, …); NaN elsewhere, which no training would survive."""
    table = said.new_full((rows, *said.shape[1:]), torch.nan)
    table[index] = said
    return table


def _of_run(run_dir: Path) -> Teacher:
    name, record = run_id(run_dir), read_json(run_dir / "run.json")
    if (run_dir / "ensemble.json").is_file():
        text = (
            f"run {name} is an ensemble; a teacher is one network. Name one of its members, or a soup (ensemble=soup)"
        )
        raise ConfigError(Problem(KEY, text))
    if record["status"] != "done":
        text = f"run {name} is {record['status']}, not done. Let it finish (tune resume {name}), or name another"
        raise ConfigError(Problem(KEY, text))
    loaded = load_run(run_dir)
    network, classes = loaded.network, tuple(loaded.classes)
    return Teacher(f"run {name}", network.backbone, loaded.transform, network, classes, run_dir)


def _rows(path: Path) -> list[int]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [int(line["row"]) for line in csv.DictReader(file)]


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:10]) + (f" … ({len(names)})" if len(names) > 10 else "")
