"""Two runs on the same rows: differences with intervals, McNemar's test, classes, and the rows that flipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tune.errors import ConfigError, DataError, Problem
from tune.evaluate.mcnemar import McNemar, mcnemar
from tune.evaluate.paired import METRICS, Joined, join
from tune.run_dir import read_json, run_id


@dataclass(frozen=True)
class Side:
    """A finished run that is compared.

    Args:
        run_dir: its folder.
        record: its run.json.
        config: its config.yaml; empty for an ensemble.
    """

    run_dir: Path
    record: dict[str, Any]
    config: dict[str, Any]

    @property
    def id(self) -> str:
        """Its short name."""
        return run_id(self.run_dir)

    @property
    def part(self) -> str:
        """The part that it is judged by: test, or val where it has no test rows."""
        return "test" if (self.run_dir / "predictions" / "test.csv").is_file() else "val"

    @property
    def predictions(self) -> Path:
        """What it said of that part."""
        return self.run_dir / "predictions" / f"{self.part}.csv"


@dataclass(frozen=True)
class Flip:
    """A row of which two runs say different things.

    Args:
        path: its name.
        label: its class.
        first: what the first run says.
        second: what the second says.
        p: the second's probability of that.
    """

    path: str
    label: str
    first: str
    second: str
    p: float


@dataclass(frozen=True)
class Pair:
    """A second run against a first, on the same rows.

    Args:
        part: test or val.
        joined: what both said of each row.
        differences: metric → how much more the second has, with the ends of the 95 % interval.
        test: McNemar's; a is the first.
        gained: rows that the second alone has right, those first of which it is surest.
        lost: rows that the first alone has right, those first in whose mistake the second is surest.
        other: rows that both have wrong, each in its way.
    """

    part: str
    joined: Joined
    differences: dict[str, tuple[float, float, float]]
    test: McNemar
    gained: list[Flip]
    lost: list[Flip]
    other: list[Flip]

    def recalls(self) -> dict[str, tuple[int, float, float]]:
        """Of each class with rows: their number, and the share that the first and the second have right."""
        both = self.joined
        found: dict[str, tuple[int, float, float]] = {}
        for number, name in enumerate(both.classes):
            rows = both.labels == number
            if rows.any():
                shares = [float((said[rows] == number).mean()) for said in (both.predicted_a, both.predicted_b)]
                found[name] = int(rows.sum()), shares[0], shares[1]
        return found


def read_side(run_dir: Path) -> Side:
    """Read a run that is to be compared.

    Raises:
        ConfigError: if it is not done, or left no predictions.
    """
    import yaml

    record, path = read_json(run_dir / "run.json"), run_dir / "config.yaml"
    if record["status"] != "done":
        cause = f" ({record['cause']})" if record.get("cause") else ""
        raise ConfigError(Problem(run_id(run_dir), f"is {record['status']}{cause}: only finished runs are compared"))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    side = Side(run_dir, record, yaml.load(path.read_text(), loader) if path.is_file() else {})
    if not side.predictions.is_file():
        raise ConfigError(Problem(side.id, f"has no predictions/{side.part}.csv: there are no rows to compare it on"))
    return side


def compare(first: Side, second: Side, *, other_split: bool = False) -> Pair:
    """Compare a run with another.

    Args:
        first: the run.
        second: the other.
        other_split: whether their other rows may be divided otherwise, as by data.split.fraction or fold.

    Raises:
        ConfigError: if they were not measured on the same rows of the same data, or learned from another split of it.
    """
    if reason := _reason(first, second):
        raise ConfigError(Problem(second.id, f"{reason}: its numbers and those of {first.id} cannot be compared"))
    try:
        both = join(first.predictions, second.predictions)
    except DataError as error:
        (problem,) = error.problems
        raise ConfigError(Problem(second.id, f"{_split(first, second)}: {problem.text}")) from error
    if has_other_split(first, second) and not other_split:
        trained = " and ".join(map(str, num_trained(second, first)))
        text = f"has another split: other training rows ({trained}), the same {first.part} rows"
        raise ConfigError(Problem(second.id, f"{text}; --other-split compares them all the same"))
    differences: dict[str, tuple[float, float, float]] = {}
    for metric in METRICS:
        less, low, high = both.difference(metric)  # of the first over the second
        if not np.isnan([less, low, high]).any():
            differences[f"{first.part}/{metric}"] = (0.0 - less, 0.0 - high, 0.0 - low)
    right_a, right_b = both.predicted_a == both.labels, both.predicted_b == both.labels
    says_other = both.predicted_a != both.predicted_b
    return Pair(
        first.part,
        both,
        differences,
        mcnemar(right_a, right_b),
        _flips(both, right_b & ~right_a),
        _flips(both, right_a & ~right_b),
        _flips(both, ~right_a & ~right_b & says_other),
    )


def has_other_split(first: Side, second: Side) -> bool:
    """Whether the rows of their parts differ, with those that were taken to train on."""
    return first.record["data"]["split"] != second.record["data"]["split"]


def num_trained(*sides: Side) -> list[int | str]:
    """Training rows of each; "–" for an ensemble."""
    return [side.record["counts"].get("train", "–") for side in sides]


def _reason(first: Side, second: Side) -> str:
    """Why two runs cannot be compared, as far as run.json tells."""
    a, b = first.record, second.record
    if a["data"]["fingerprint"] != b["data"]["fingerprint"]:
        prints = [each["data"]["fingerprint"][:4] for each in (b, a)]
        return f"read other data (fingerprint {prints[0]}, not {prints[1]})"
    if sorted(a["classes"]) != sorted(b["classes"]):
        return f"has the classes {', '.join(b['classes'])}, not {', '.join(a['classes'])}"
    if first.part != second.part:
        return f"was judged by {second.part} rows, not by {first.part} rows"
    return ""


def _split(first: Side, second: Side) -> str:
    """That the split is another, with what the two records say of it."""
    splits = [each.record["data"]["split"][:4] for each in (second, first)]
    counts = [each.record["counts"][first.part] for each in (second, first)]
    return f"has another split ({splits[0]}, not {splits[1]}; {counts[0]} and {counts[1]} {first.part} rows)"


def _flips(both: Joined, which: Any) -> list[Flip]:
    rows = sorted(np.flatnonzero(which).tolist(), key=lambda row: -both.probs_b[row, both.predicted_b[row]])
    name = both.classes.__getitem__
    return [
        Flip(
            both.paths[row],
            name(both.labels[row]),
            name(both.predicted_a[row]),
            name(both.predicted_b[row]),
            float(both.probs_b[row, both.predicted_b[row]]),
        )
        for row in rows
    ]
