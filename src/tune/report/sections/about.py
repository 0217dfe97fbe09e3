"""What was run, on what, with which result in a few numbers, and how to do it again."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from tune.report.commands import masked, with_words
from tune.report.page.blocks import Block, Code, Facts, Numbers, Table, Text
from tune.report.told import Told

_GROUPS = ("backbone", "head", "freeze", "augment", "regularize", "loss", "optimizer", "scheduler", "transfer")
_SHOWN = ("accuracy", "balanced_accuracy", "auroc", "f1", "f1_macro")


def number(value: float) -> str:
    """Three digits behind the point for what is near 1, else three that count."""
    return f"{value:.3f}" if 0.1 <= abs(value) < 10 or value == 0 else f"{value:.3g}"


def interval(ends: Any) -> str:
    """The ends of an interval, empty for none."""
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends and None not in ends else ""


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def head_numbers(told: Told) -> list[Block]:
    """The metrics of the test part, or of validation where there is none."""
    found, intervals = told.metrics, told.record.get("intervals") or {}
    part = "test" if any(name.startswith("test/") for name in found) else "val"
    names = [f"{part}/{name}" for name in _SHOWN if f"{part}/{name}" in found]
    names = [name for name in names if not (name.endswith("f1_macro") and f"{part}/f1" in found)]
    items = [(name, number(found[name]), interval(intervals.get(name))) for name in names]
    if not items:
        return [Text(f"Nothing was measured: the run is {told.status}.")]
    rows = (told.record.get("counts") or {}).get(part)
    said = [Text(f"n = {rows:,} rows; in brackets 95 % intervals.", quiet=True)] if rows and part == "test" else []
    if part == "val":
        said = [
            Text("There is no test part, or it was not reached: validation rows, which chose the epoch.", quiet=True)
        ]
    return [Numbers(items), *said]


def verdicts(told: Told) -> list[Block]:
    """Each verdict with its numbers, and what to try as whole commands."""
    blocks: list[Block] = []
    for verdict in told.verdicts:
        blocks.append(Text(f"{verdict.name[0].upper()}{verdict.name[1:]}: {verdict.evidence}."))
        if verdict.tries:
            blocks.append(
                Table(("try", ""), [(" ".join(each.words), each.why) for each in verdict.tries], words=(0, 1))
            )
            commands = [shlex.join(with_words(told.words, each.words)) for each in verdict.tries]
            blocks.append(Code("\n".join(commands), folded="as commands"))
    return blocks


def what_was_run(told: Told) -> list[Block]:
    """Data, network, recipe and machine; the whole config folded."""
    record, config, choices = told.record, told.config, told.record.get("choices", {})
    rows: list[tuple[str, str]] = []
    if "ensemble" in record:
        rows += [("ensemble", record["ensemble"]["how"]), ("members", ", ".join(record["ensemble"]["members"]))]
    if "chain" in record:
        done = [f"{stage.run_dir.name} ({' '.join(stage.words[len(told.words) :]) or '–'})" for stage in told.stages]
        rows.append(("chain", "; ".join(done)))
    if "data" in choices:
        rows.append(("data", _data(told)))
    if "prevalence" in record:
        rows.append(("classes", _classes(record)))
    for name, counts in (record.get("tasks") or {}).items():
        rows.append((f"task {name}", ", ".join(f"{count:,} labelled in {part}" for part, count in counts.items())))
    if record.get("skipped"):
        names = ", ".join(str(name) for name, _ in record["skipped"][:5])
        rows.append(("unreadable", f"{len(record['skipped'])} images left out: {names}"))
    if "weights" in record:
        digest = record["weights"]["digest"][:8]
        rows.append(
            ("backbone", f"{choices['backbone']}, {record['weights']['source']}{f' ({digest})' * bool(digest)}")
        )
    rows += [(group, _chosen(told, group)) for group in _GROUPS[1:] if group in choices]
    if config:
        lr = (record.get("auto") or {}).get("lr")
        rate = f"lr {lr['lr']:g} (auto: {lr['reason']})" if lr else f"lr {config['lr']}"
        rows.append(
            ("steps", f"{config['epochs']} epochs, batch_size {config['batch_size']}, {rate}, seed {config['seed']}")
        )
    if "best_epoch" in record:
        rows.append(("kept", f"epoch {record['best_epoch']}, by {record['objective']}"))
    if record.get("threshold") is not None:
        rows.append(("threshold", f"{record['threshold']:.3g}"))
    if "device" in record:
        auto = record["auto"].get("precision") if record.get("auto") else None
        rows.append(("device", f"{record['device']}; {auto or config['precision']}"))
    if record.get("cache"):
        rows.append(("cache", record["cache"]))
    if "seconds" in record:
        rows.append(("time", duration(record["seconds"])))
    whole = yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else ""
    return [Facts(rows), *([Code(whole, folded="the whole config")] if whole else [])]


def repeat(told: Told) -> list[Block]:
    """The command, and what must be the same."""
    record = told.record
    if "overrides" not in record:
        return []
    words = ["tune", "run", *told.words]
    if "sweep" in record:
        said = f"This is trial {record['number']} of {record['sweep']}; alone it is run by"
        blocks: list[Block] = [Text(said), Code(shlex.join(words))]
    else:
        blocks = [Code(shlex.join(words))]
    facts = []
    if "data" in record and "fingerprint" in record["data"]:
        facts.append(("data", record["data"]["fingerprint"][:16]))
        facts.append(("split", record["data"]["split"][:16]))
    if record.get("git"):
        is_dirty = record["git"].endswith("+")
        facts.append(("commit", record["git"].rstrip("+") + (", with changes that were not committed" * is_dirty)))
    if record.get("command"):
        facts.append(("as typed", shlex.join(["tune", *(masked(word) for word in record["command"][1:])])))
    if facts:
        blocks.append(Facts(facts))
    blocks.append(Text("On a CPU the same data, words and versions give the same weights, bit for bit.", quiet=True))
    return blocks


def versions(told: Told) -> list[Block]:
    """Of everything that can change a number."""
    found = told.record.get("versions")
    return [Facts(list(found.items()))] if found else []


def _data(told: Told) -> str:
    record = told.record
    counts = " / ".join(f"{count:,} {part}" for part, count in record.get("counts", {}).items())
    data = {key: value for key, value in told.config.get("data", {}).items() if key != "_target_"}
    keys = ", ".join(f"{key} {value}" for key, value in data.items() if not isinstance(value, dict | list))
    how = f"; {record['data']['how']}" if "data" in record else ""
    return f"{record['choices']['data']}{f' ({keys})' * bool(keys)}: {counts}{how}"


def _classes(record: dict[str, Any]) -> str:
    named, train = record["classes"], record["prevalence"]["train"]
    whole = max(sum(train), 1)
    each = [f"{name} {100 * count / whole:.1f} %" for name, count in zip(named, train, strict=True)]
    more = f" and {len(each) - 12} more" if len(each) > 12 else ""
    return f"{', '.join(each[:12])}{more} of the training rows"


def _chosen(told: Told, group: str) -> str:
    """The option of a group and its numbers that differ from nothing."""
    option, node = told.record["choices"][group], told.config.get(group) or {}
    keys = ", ".join(
        f"{key} {value}" for key, value in node.items() if key != "_target_" and not isinstance(value, dict | list)
    )
    return f"{option}{f' ({keys})' * bool(keys)}"
