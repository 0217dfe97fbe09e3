"""The folder of a run, a chain or an ensemble as far as it is written, for a page. Torch-free."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tune.report.commands import masked
from tune.report.diagnosis import Verdict, diagnose
from tune.report.predicted import Decided, read_decided
from tune.report.story import read_story
from tune.run_dir import read_json, run_id


@dataclass(frozen=True)
class Told:
    """What the files of one folder say; what is not written yet, or never is, is empty."""

    run_dir: Path

    @cached_property
    def name(self) -> str:
        """Short name of the run."""
        return run_id(self.run_dir)

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json."""
        return read_json(self.run_dir / "run.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml; an ensemble has none."""
        path = self.run_dir / "config.yaml"
        return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if path.is_file() else {}

    @cached_property
    def epochs(self) -> list[dict[str, float]]:
        """metrics.csv, without what an epoch lacks."""
        return [{key: float(value) for key, value in row.items() if value} for row in self._rows("metrics.csv")]

    @cached_property
    def layers(self) -> list[dict[str, str]]:
        """monitor.csv."""
        return self._rows("monitor.csv")

    @cached_property
    def decided(self) -> dict[str, Decided]:
        """Rows with a label, by part: "val", "test"."""
        found = {part: read_decided(self.run_dir / "predictions" / f"{part}.csv") for part in ("val", "test")}
        return {part: decided for part, decided in found.items() if decided is not None}

    @property
    def part(self) -> str:
        """The part that the run is judged by: "test" where there is one; "" while nothing is measured."""
        return next((part for part in ("test", "val") if part in self.decided), "")

    @cached_property
    def pictures(self) -> dict[str, Any]:
        """pictures/index.json."""
        path = self.run_dir / "pictures" / "index.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """What the curves say, where there are any."""
        is_run = "choices" in self.record and "counts" in self.record and "chain" not in self.record
        return diagnose(read_story(self.run_dir)) if is_run and (self.epochs or self.status == "diverged") else []

    @property
    def status(self) -> str:
        """running, done, failed, diverged or interrupted."""
        return self.record["status"]

    @property
    def metrics(self) -> dict[str, float]:
        """All that were measured and are numbers."""
        measured = self.record.get("metrics") or {}
        return {name: value for name, value in measured.items() if value is not None}

    @property
    def words(self) -> list[str]:
        """The words that made it, without secrets."""
        return [masked(word) for word in self.record.get("overrides", [])]

    @cached_property
    def stages(self) -> list[Told]:
        """Of a chain: its parts, as far as they have begun."""
        chain = self.record.get("chain") or {}
        names = [entry["name"] for key in ("stages", "beside") for entry in chain.get(key, [])]
        return [Told(self.run_dir / name) for name in names if (self.run_dir / name / "run.json").is_file()]

    def _rows(self, name: str) -> list[dict[str, str]]:
        path = self.run_dir / name
        if not path.is_file():
            return []
        with path.open(newline="") as lines:
            return list(csv.DictReader(lines))
