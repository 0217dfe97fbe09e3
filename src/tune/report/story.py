"""A run as its files tell it: what it was, its curves, what it said of the validation rows."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tune.config import schema
from tune.config.across.fitted import is_fitted
from tune.config.signature.source import Found, find, signature
from tune.run_dir import read_json


@dataclass(frozen=True)
class Predicted:
    """Validation rows with a known label, in the best epoch.

    Args:
        names: N names.
        labels: N numbers of classes.
        probs: N times K probabilities, to six digits.
    """

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    probs: list[list[float]] = field(default_factory=list)

    def row_losses(self) -> list[float]:
        """N times ``-log p`` of the label."""
        return [-math.log(max(p[label], 5e-7)) for label, p in zip(self.labels, self.probs, strict=True)]


@dataclass(frozen=True)
class Story:
    """What the files say.

    Args:
        record: run.json.
        config: config.yaml.
        rows: metrics.csv, one per epoch; a metric that an epoch lacks is left out.
        val: predictions/val.csv.
    """

    record: dict[str, Any]
    config: dict[str, Any]
    rows: list[dict[str, float]]
    val: Predicted

    @property
    def is_fitted(self) -> bool:
        """Whether the head was fitted at once, so that there is no curve."""
        return is_fitted(self.config["head"])

    @property
    def objective(self) -> str:
        """The metric that chose the epoch."""
        return self.config["objective"]

    def value(self, key: str) -> Any:
        """What `GROUP.NAME` was in the run, by its config or by the signature; None where there is no such key."""
        group, _, name = key.partition(".")
        node = self.config[group]
        if name in node:
            return node[name]
        found = find(node.get("_target_", schema.WITHOUT_TARGET.get(group, "")))
        known = signature(found).parameters if isinstance(found, Found) else {}
        return known[name].default_value if name in known else None

    def curve(self, name: str) -> list[float]:
        """A metric epoch by epoch; empty unless every epoch has it."""
        values = [row[name] for row in self.rows if name in row]
        return values if len(values) == len(self.rows) else []

    def shares(self, part: str) -> list[float]:
        """Share of each class in "train" or "val"."""
        counts = self.record["prevalence"][part]
        return [count / max(sum(counts), 1) for count in counts]


def read_story(run_dir: Path) -> Story:
    """Read the folder of a run."""
    record = read_json(run_dir / "run.json")
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    history, predictions = run_dir / "metrics.csv", run_dir / "predictions" / "val.csv"
    rows = _history(history) if history.is_file() else []
    return Story(record, config, rows, _predicted(predictions, record) if predictions.is_file() else Predicted())


def _history(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]


def _predicted(path: Path, record: dict[str, Any]) -> Predicted:
    number = {name: label for label, name in enumerate(record["classes"])}
    found = Predicted()
    with path.open(newline="") as lines:
        for _, name, label, _, *probs in list(csv.reader(lines))[1:]:
            if label in number and "nan" not in probs:
                found.names.append(name)
                found.labels.append(number[label])
                found.probs.append([float(p) for p in probs])
    return found
