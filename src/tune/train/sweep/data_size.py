"""What a sweep over `data.split.fraction` says: whether more rows would pay, and when scratch overtakes transfer."""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from tune.report.commands import is_repeat, key_of
from tune.train.sweep import ledger
from tune.train.sweep.leaderboard import Row, label

_KEY = "data.split.fraction"


@dataclass
class _Method:
    """The trials that differ only in their seeds and their share of the training rows.

    Args:
        name: of its case, or the words that tell it from the others.
        is_scratch: whether its backbone started from random weights.
        trials: share → seeds → the trial and its accuracy.
    """

    name: str
    is_scratch: bool
    trials: dict[float, dict[str, tuple[Row, float]]] = field(default_factory=dict)

    def mean(self, share: float) -> float:
        return statistics.fmean(value for _, value in self.trials[share].values())


def lines(rows: list[Row]) -> list[str]:
    """Accuracy by share for each method, what the last doubling of the rows brought, and where scratch overtakes.

    A gain counts if it is above twice its standard error, the larger of two: over the seeds that both shares have,
    which knows nothing of other test rows; and over the test rows, from who was right on each of them,
    ``sqrt(b + c - (b - c)^2 / n) / n`` for b rows gained and c lost of n, which knows nothing of another training. The
    second is that of McNemar 1947; of several seeds, the mean.

    Args:
        rows: all trials of a sweep.

    Returns:
        No line if fewer than two shares are done.
    """
    if not any(_KEY in word for row in rows for word in row.overrides):
        return []
    done = [row for row in rows if row.status == "done"]
    metric = "test/accuracy" if any(row.metric("test/accuracy") is not None for row in done) else "val/accuracy"
    methods = _methods([row for row in done if row.metric(metric) is not None], metric)
    if len({share for method in methods for share in method.trials}) < 2:
        return []
    width = max(len(method.name) for method in methods)
    told = [f"{metric} by share of the training rows"]
    for method in methods:
        found = "  ".join(f"{share:g}: {method.mean(share):.3f}" for share in sorted(method.trials))
        told.append(f"  {method.name:<{width}}  {found}   {_verdict(method, metric.partition('/')[0])}".rstrip())
    return told + _overtaking(methods)


def _methods(rows: list[Row], metric: str) -> list[_Method]:
    found: dict[str, _Method] = {}
    for row in rows:
        share, kept = _without_share(row.config)
        name = row.choices.get("case") or label(_words(row), rows) or "accuracy"
        method = found.setdefault(ledger.canonical(kept), _Method(name, _is_scratch(row.config["backbone"])))
        value = row.metric(metric)
        assert value is not None
        seeds = f"{row.config['seed']} {row.config['data'].get('split', {}).get('seed', 0)}"
        method.trials.setdefault(share, {})[seeds] = row, value
    return list(found.values())


def _without_share(config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """The share of the training rows, and the config without it and without the seeds."""
    kept = {key: value for key, value in ledger.deciding(config).items() if key != "seed"}
    split = dict(config["data"].get("split") or {})
    share = float(split.pop("fraction", 1.0))
    split.pop("seed", None)
    return share, {**kept, "data": {**kept["data"], "split": split}}


def _words(row: Row) -> list[str]:
    return [word for word in row.overrides if not is_repeat(word) and key_of(word) != _KEY]


def _is_scratch(backbone: dict[str, Any]) -> bool:
    """Whether it starts from random weights: asked for, or of a kind that has none."""
    is_timm = backbone["_target_"] == "tune.models.backbones.timm_model.TimmBackbone"
    return backbone.get("weights", "hub" if is_timm else "none") == "none"


def _verdict(method: _Method, part: str) -> str:
    """What the last doubling brought on a part of the rows; empty for a method with one share."""
    shares = sorted(method.trials)
    if len(shares) < 2:
        return ""
    last = shares[-1]
    before = max((share for share in shares if share <= last / 2), default=shares[-2])
    brought = f"{before:g} → {last:g} brought {method.mean(last) - method.mean(before):+.3f}"
    seeds = sorted(method.trials[before].keys() & method.trials[last].keys())
    pairs = [(method.trials[before][each], method.trials[last][each]) for each in seeds]
    if not pairs:
        return f"{brought}, with other seeds"
    gains = [value - earlier for (_, earlier), (_, value) in pairs]
    error = statistics.fmean(_error_over_rows(row, earlier, part) for (earlier, _), (row, _) in pairs)
    if len(gains) > 1:
        error = max(error, statistics.stdev(gains) / math.sqrt(len(gains)))
    pays = statistics.fmean(gains) > 2 * error
    return f"{brought} ± {error:.3f}: {'more rows would pay' if pays else 'no sign that more rows would pay'}"


def _error_over_rows(row: Row, earlier: Row, part: str) -> float:
    now, then = _right(row, part), _right(earlier, part)
    gained = sum(now[name] and not then[name] for name in now)
    lost = sum(then[name] and not now[name] for name in now)
    return math.sqrt(gained + lost - (gained - lost) ** 2 / len(now)) / len(now)


def _right(row: Row, part: str) -> dict[str, bool]:
    """Whether a trial was right on each row of a part."""
    assert row.run_dir is not None
    with (row.run_dir / "predictions" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        return {each["row"]: each["label"] == each["predicted"] for each in csv.DictReader(file)}


def _overtaking(methods: list[_Method]) -> list[str]:
    """For each method from scratch, the share from which on it is better than each that transfers."""
    told = []
    for scratch in (method for method in methods if method.is_scratch):
        said = []
        for other in (method for method in methods if not method.is_scratch):
            shares = sorted(scratch.trials.keys() & other.trials.keys())
            worse = [share for share in shares if scratch.mean(share) <= other.mean(share)]
            better = [share for share in shares if share > max(worse, default=0.0)]
            if shares:
                said.append(f"{other.name} {f'at {better[0]:g}' if better else 'not within these rows'}")
        if said:
            told.append(f"  {scratch.name}, from random weights, overtakes: {', '.join(said)}")
    return told
