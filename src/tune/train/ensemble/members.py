"""The runs that an ensemble is made of, and whether they go together."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from tune.errors import ConfigError, Problem
from tune.run_dir import read_json, run_id


@dataclass(frozen=True)
class Predicted:
    """What a run says of a part: rows (N,), labels (N,), -1 where none is known, probabilities (N, K)."""

    index: Tensor
    labels: Tensor
    probs: Tensor


@dataclass(frozen=True)
class Member:
    """A finished run.

    Args:
        run_dir: its folder.
        record: its run.json.
        config: its config.yaml.
        val: of the validation rows.
        test: of the test rows; None without any.
        names: name of each row that it predicted, by its number.
    """

    run_dir: Path
    record: dict[str, Any]
    config: dict[str, Any]
    val: Predicted
    test: Predicted | None
    names: dict[int, str]

    @property
    def id(self) -> str:
        """Its short name."""
        return run_id(self.run_dir)


def read_members(run_dirs: Sequence[Path]) -> list[Member]:
    """Read runs that are to decide together.

    Raises:
        ConfigError: if there are fewer than two, one is not done, or they are not of the same data, classes and test
            rows.
    """
    if len(run_dirs) < 2:
        raise ConfigError(Problem("ensemble", f"needs two members or more, not {len(run_dirs)}"))
    records = [read_json(path / "run.json") for path in run_dirs]
    for path, record in zip(run_dirs, records, strict=True):
        if "ensemble" in record:
            raise ConfigError(Problem(run_id(path), "is an ensemble itself; name its members"))
        if record["status"] != "done":
            raise ConfigError(Problem(run_id(path), f"is {record['status']}, not done; leave it out or resume it"))
    members = [_read(path, record) for path, record in zip(run_dirs, records, strict=True)]
    first, problems = members[0], []
    for member in members[1:]:
        if member.record["classes"] != first.record["classes"]:
            problems.append(Problem(member.id, f"has other classes than {first.id}"))
        elif member.record["data"]["fingerprint"] != first.record["data"]["fingerprint"]:
            problems.append(Problem(member.id, f"was trained on other data than {first.id}"))
        elif not _same_rows(member.test, first.test):
            problems.append(Problem(member.id, f"has another split than {first.id}: their test rows differ"))
    if problems:
        raise ConfigError(*problems)
    return members


def pooled(members: Sequence[Member], part: str) -> Predicted:
    """The mean prediction of each row over the members that have one of it: with folds, each row once.

    Args:
        members: with the same rows in the test part.
        part: val or test.
    """
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    labels: dict[int, int] = {}
    for member in members:
        predicted: Predicted | None = getattr(member, part)
        if predicted is None:
            continue
        for row, label, probs in zip(predicted.index.tolist(), predicted.labels, predicted.probs.double(), strict=True):
            sums[row] = sums[row] + probs if row in sums else probs
            counts[row] = counts.get(row, 0) + 1
            labels[row] = int(label)
    rows = sorted(sums)
    probs = torch.stack([sums[row] / counts[row] for row in rows]).float()
    return Predicted(torch.tensor(rows), torch.tensor([labels[row] for row in rows]), probs)


def _read(run_dir: Path, record: dict[str, Any]) -> Member:
    names: dict[int, str] = {}
    val = _predicted(run_dir, "val", record["classes"], names)
    if val is None:
        raise ConfigError(Problem(run_id(run_dir), "has no predictions/val.csv"))
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    return Member(run_dir, record, config, val, _predicted(run_dir, "test", record["classes"], names), names)


def _predicted(run_dir: Path, part: str, classes: list[str], names: dict[int, str]) -> Predicted | None:
    file = run_dir / "predictions" / f"{part}.csv"
    if not file.is_file():
        return None
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    numbers = {name: number for number, name in enumerate(classes)}
    names |= {int(row["row"]): row["path"] for row in rows}
    probs = torch.tensor([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    labels = torch.tensor([numbers[row["label"]] if row["label"] else -1 for row in rows])
    return Predicted(torch.tensor([int(row["row"]) for row in rows]), labels, probs)


def _same_rows(one: Predicted | None, other: Predicted | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.index, other.index)
