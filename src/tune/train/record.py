"""run.json: what a run is, written when it starts, and what came of it, written when it ends."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.data.loading.orders import tested_rows
from tune.data.splits import prevalence
from tune.data.tasks.columns import labelled
from tune.evaluate.loaded import without_source
from tune.evaluate.metrics import tell
from tune.evaluate.predict import write_predictions
from tune.evaluate.retrieval import METRICS as RETRIEVAL
from tune.run_dir import HIDDEN, is_secret, process_identity, write_json
from tune.train.devices.versions import git_sha, versions
from tune.train.screen import audit_parts

if TYPE_CHECKING:
    from tune.train.experiment import Job
    from tune.train.prepare import Prepared


@dataclass
class Record:
    """The content of run.json.

    Args:
        run_dir: the run folder.
        facts: what is known when the run starts.
    """

    run_dir: Path
    facts: dict[str, Any]
    started: float = field(default_factory=time.time)
    seconds_before: float = 0.0

    def start(self) -> None:
        """Write status "running" and who runs it."""
        write_json(self.run_dir / "run.json", {"status": "running", **process_identity(), **self.facts})

    def end(self, status: str, exit_code: int, cause: str = "", **result: Any) -> None:
        """Write the result.

        Args:
            status: done, failed, diverged or interrupted.
            exit_code: of the command.
            cause: one line when it is not done.
            result: metrics and whatever else came out.
        """
        seconds = round(self.seconds_before + time.time() - self.started, 3)
        outcome = {"status": status, "cause": cause, "exit_code": exit_code, "seconds": seconds}
        write_json(self.run_dir / "run.json", {**outcome, **process_identity(), **self.facts, **result})


def facts_of(prepared: Prepared, job: Job) -> dict[str, Any]:
    """What is known of a run before its first step."""
    return {
        "name": job.config["name"],
        "overrides": job.overrides,
        "choices": job.choices,
        "objective": job.config["objective"],
        "seed": job.config["seed"],
        **common_facts(prepared),
        **job.record,
        **({"reproduces": job.reproduces} if job.reproduces else {}),
    }


def common_facts(prepared: Prepared) -> dict[str, Any]:
    """What trials that train as one have in common; looked at once."""
    if not prepared.facts:
        backbone, parts, config = prepared.network.backbone, prepared.parts, prepared.config
        table = prepared.table
        sizes = {"train": parts.train, "val": table.labelled(parts.val), "test": tested_rows(table, parts)}
        prepared.facts |= {
            "device": prepared.device,
            "auto": ({"precision": prepared.precision.reason} if config["precision"] == "auto" else {})
            | ({"freeze": asdict(prepared.choice)} if prepared.choice else {})
            | ({"lr": asdict(prepared.rate)} if prepared.rate else {})
            | ({"compile": "; ".join(prepared.frozen.compile_notes)} if prepared.frozen.compile_notes else {}),
            "cache": prepared.frozen.describe(),
            "data": {"fingerprint": table.fingerprint(), "split": parts.fingerprint, "how": parts.how},
            "counts": {part: len(rows) for part, rows in sizes.items()},
            "prevalence": {each.part: each.counts for each in prevalence(table, parts)},
            "classes": table.classes,
            "tasks": labelled(table, parts),
            "skipped": prepared.skipped,
            "weights": {"source": backbone.weights_source, "digest": backbone.weights_digest},
            "versions": versions(),
            "freeze": audit_parts(prepared),
            "git": git_sha(),
            "command": sys.argv,
        }
    return prepared.facts


def with_test(result: dict[str, Any], prepared: Prepared, run_dir: Path, measured: dict[str, float]) -> dict[str, Any]:
    """Add metrics, intervals, counts and the confusion matrix of the test part; write its predictions."""
    named = {part: rows for part, rows in prepared.learner.measured.items() if part.startswith("test")}
    if prepared.rank == 0:
        for part, rows in named.items():
            path = run_dir / "predictions" / f"{part}.csv"
            names, classes = prepared.table.names, prepared.table.classes
            write_predictions(path, names, classes, *rows, result["threshold"])
            prepared.learner.answers.write(path.parent, "test", names)
    result["metrics"] |= {name: value for name, value in measured.items() if name.startswith("test_")}
    if "test" not in named:
        return result
    _, labels, probs = named["test"]
    result["metrics"] |= {f"test/{name}": value for name, value in prepared.learner.answers.metrics["test"].items()}
    result["metrics"] |= {f"test/{name}": measured[f"test/{name}"] for name in RETRIEVAL if f"test/{name}" in measured}
    return tell(result, common_facts(prepared)["counts"], probs, labels, measured["test/loss"], result["threshold"])


def describe_network(prepared: Prepared, partial: bool) -> dict[str, Any]:
    """What `tune.load` needs beside the weights: the nodes of backbone and head, class names and the transform.

    Args:
        prepared: the run.
        partial: whether the weights file lacks what was frozen, so that the backbone's own weights are needed.
    """
    config, backbone = prepared.config, prepared.network.backbone
    return {
        "classes": prepared.table.classes,
        "threshold": None,  # noted with the weights of the best epoch
        "backbone": config["backbone"] if partial else without_source(config["backbone"]),
        "head": config["head"],
        "aligned": prepared.network.align is not None,
        "tasks": {name: asdict(labels.task) for name, labels in prepared.table.tasks.items()},
        "feature_dim": backbone.feature_dim,
        "input": {
            "size": list(backbone.input.size),
            "mean": list(backbone.input.mean),
            "std": list(backbone.input.std),
            "interpolation": backbone.input.interpolation,
            "fit": prepared.data.fit,
        },
        "partial": partial,
        "output": str(Path(config["output"]).absolute()) if partial else "",
        "weights": {"source": backbone.weights_source, "digest": backbone.weights_digest},
    }


def masked(node: Any, key: str = "") -> Any:
    """The same plain config with every value hidden whose key sounds like a secret."""
    if isinstance(node, dict):
        return {name: masked(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [masked(value, key) for value in node]
    if isinstance(node, str) and is_secret(key):
        return HIDDEN
    return node
