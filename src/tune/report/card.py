"""The model card: what a run is, what it was measured to do, and what follows of its limits, from its records alone.

What the records do not say stands as "unknown: fill in"; nothing is guessed. Torch-free.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tune.evaluate.calibration import expected_error
from tune.evaluate.paired import read_predictions
from tune.report.licences import UNKNOWN, licences
from tune.run_dir import find_run, read_json, run_id

_FEW = 100
"""Test rows of a class below which the 95 % interval of its share of right answers may be wider than ± 10 points."""


def card_of(run_dir: Path, file: str, kind: str) -> str:
    """Markdown.

    Args:
        run_dir: of a run that is done.
        file: name of the exported file; empty for a card alone.
        kind: its format.
    """
    record, config = _records(run_dir)
    described = yaml.safe_load((run_dir / "model.yaml").read_text())
    title = f"{record['name']} {run_id(run_dir)}"
    parts = [
        f"# {_text(title)}\n\nAn image classifier made with tune {record['versions']['tune']}.",
        _use(described, file, kind),
        _data(record, config),
        _metrics(run_dir, record),
        _training(record, config, described),
        _limits(run_dir, record),
        "## Licences\n\n" + "\n".join(f"- {what}: {_text(text)}" for what, text in licences(config, described).items()),
        f"## Intended use\n\n{UNKNOWN}",
    ]
    return "\n\n".join(parts) + "\n"


def _records(run_dir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """run.json and config.yaml; of a soup, with what it has in common with its first member."""
    record = read_json(run_dir / "run.json")
    if "ensemble" not in record:
        return record, yaml.safe_load((run_dir / "config.yaml").read_text())
    common, config = _records(find_run(record["ensemble"]["members"][0]))
    return {**common, **record}, config


def _use(described: dict[str, Any], file: str, kind: str) -> str:
    spec = described["input"]
    height, width = spec["size"]
    classes = described["classes"]
    lines = [
        "## Use",
        "",
        f"- classes: {', '.join(_text(name) for name in classes)}",
        f"- input: RGB, {height} × {width} pixels (height × width), resized ({spec['interpolation']}, antialiased), "
        f"fit: {spec['fit']}",
        f"- decision: {_decision(classes, described['threshold'])}",
    ]
    for name, task in described["tasks"].items():
        told = f" of {', '.join(_text(each) for each in task['classes'])}" if task["classes"] else ""
        lines.append(f"- tells {_text(name)} too: {task['kind']}{told}")
    normalised = f"normalised with mean {spec['mean']} and std {spec['std']}"
    if kind in ("onnx", "torch-export"):
        lines.append(f"- `{file}` ({kind}): takes float32 (B, 3, H, W) of 0 to 1; {normalised} inside, so do not do it")
    elif file:
        whole = "what trained; the rest are the backbone's own weights" if kind == "delta" else "the whole network"
        lines.append(f"- `{file}` holds {whole}; images are {normalised} before; its metadata say how it is built")
    return "\n".join(lines)


def _decision(classes: list[str], threshold: float | None) -> str:
    if threshold is None:
        return "the likeliest class"
    return f"{_text(classes[1])} where its probability is above {threshold:.4g}, else {_text(classes[0])}"


def _data(record: dict[str, Any], config: dict[str, Any]) -> str:
    reader = config["data"]["_target_"].rpartition(".")[2]
    where = {key: config["data"][key] for key in ("root", "file") if config["data"].get(key)}
    rows = ["| class | train | val | test |", "|---|---|---|---|"]
    parts = ("train", "val", "test")
    for number, name in enumerate(record["classes"]):
        counts = [record["prevalence"].get(part, []) for part in parts]
        cells = [str(each[number]) if number < len(each) else "–" for each in counts]
        rows.append(f"| {_text(name)} | {' | '.join(cells)} |")
    lines = [
        f"Read by {reader}{' from ' + ', '.join(_text(str(each)) for each in where.values()) if where else ''}; "
        f"split {record['data']['how']}.",
        f"Fingerprint of the rows {record['data']['fingerprint'][:16]}, of the split {record['data']['split'][:16]}.",
    ]
    if record["skipped"]:
        lines.append(f"{len(record['skipped'])} images could not be decoded and were left out.")
    return "\n".join(["## Data", "", *lines, "", *rows])


def _metrics(run_dir: Path, record: dict[str, Any]) -> str:
    rows = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for name, value in record["metrics"].items():
        if name.startswith("test/") and value is not None:
            between = record.get("intervals", {}).get(name)
            rows.append(
                f"| {_text(name)} | {value:.4g} | {f'{between[0]:.3f} – {between[1]:.3f}' if between else '–'} |"
            )
    if len(rows) == 2:
        return "## Metrics\n\nThe run had no test part: nothing is known of rows that did not choose it."
    lines = [f"On {record['counts']['test']} test rows, that no decision of the training saw.", "", *rows]
    for path in sorted([*(run_dir / "evaluations").glob("*.json"), *(run_dir / "attacks").glob("*.json")]):
        kept = {name: value for name, value in read_json(path)["metrics"].items() if value is not None}
        told = ", ".join(f"{_text(name)} {value:.4g}" for name, value in kept.items())
        lines.append(f"\nMeasured besides, {path.parent.name}/{path.name}: {told}")
    return "\n".join(["## Metrics", "", *lines])


def _training(record: dict[str, Any], config: dict[str, Any], described: dict[str, Any]) -> str:
    backbone = config["backbone"]
    chosen = record["choices"]
    changed = shlex.join(["tune", "run", *record["overrides"]])
    lines = [
        f"- backbone: {_text(str(backbone.get('name', chosen.get('backbone', backbone['_target_']))))}, "
        f"{_text(described['weights']['source'])}"
        + (f" (sha256 {described['weights']['digest'][:16]})" if described["weights"]["digest"] else ""),
        f"- trained: freeze={chosen.get('freeze', UNKNOWN)}, {config['epochs']} epochs, the weights are those of epoch "
        f"{record.get('best_epoch', UNKNOWN)}, best on {record.get('objective', config['objective'])}",
        f"- loss {chosen.get('loss')}, optimizer {chosen.get('optimizer')}, lr {config['lr']}, batch_size "
        f"{config['batch_size']}, augment {chosen.get('augment')}, seed {config['seed']}",
        f"- device: {record['device']}, {record['auto'].get('precision', config['precision'])}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in record['versions'].items())}",
        f"- git: {record['git'] or 'not in a repository'}",
    ]
    if "ensemble" in record:
        lines.insert(0, f"- the average of the weights of {len(record['ensemble'].get('kept', []))} runs (a soup)")
    return "\n".join(["## Training", "", *lines, "", "```", changed, "```"])


def _limits(run_dir: Path, record: dict[str, Any]) -> str:
    lines = []
    tested = record["prevalence"].get("test", [])
    few = [(name, count) for name, count in zip(record["classes"], tested, strict=False) if count < _FEW]
    if few:
        told = ", ".join(f"{_text(name)} {count}" for name, count in few)
        lines.append(f"Few test rows of a class ({told}): its share of right answers may be off by 10 points or more.")
    trained = record["prevalence"].get("train", [])
    if trained and min(trained) * 10 < max(trained):
        lines.append(
            f"Training rows are unequal ({min(trained)} of the rarest class, {max(trained)} of the commonest)."
        )
    how = record["data"]["how"]
    lines.append(
        f"Test rows are of the same data as the training rows (split {how}): other cameras, places or times are not "
        f"measured by them, nor are images of none of the classes, which get one all the same."
    )
    if record.get("threshold") is not None:
        lines.append(f"The threshold {record['threshold']:.4g} fits the shares of the classes in the validation rows.")
    file = run_dir / "predictions" / "test.csv"
    if file.is_file() and record["counts"].get("test"):
        told = list(read_predictions(file)[1].values())
        labels, probs = np.array([each[0] for each in told]), np.array([each[2] for each in told])
        error = expected_error(labels, probs)
        lines.append(f"Probabilities are off by {100 * error:.1f} points on average (ECE, test rows, not calibrated).")
    if "bf16" in json.dumps(record["auto"].get("precision", "")):
        lines.append("The metrics are of a network that computed in bf16 in part; an exported file computes in fp32.")
    return "\n".join(["## Limits", "", *(f"- {line}" for line in lines)])


def _text(value: str) -> str:
    """A name as Markdown shows it, whatever it holds."""
    value = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for sign in "\\`*_[]|":
        value = value.replace(sign, "\\" + sign)
    return value
