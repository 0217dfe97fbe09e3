"""Several runs side by side: their metrics, and the words in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tune.report.page.blocks import Part, Section, Table, Text
from tune.report.sections.about import interval, number
from tune.report.told import Told

_NOT_OF_THE_RESULT = ("name", "output", "expected", "sweep", "stages")


def part_of(several: Sequence[Told]) -> Part:
    """What stands above the parts of the runs."""
    names = list(dict.fromkeys(name for told in several for name in told.metrics))
    rows = [[name, *(_measured(told, name) for told in several)] for name in names]
    flat = [_flat({**told.config, **_choices(told)}) for told in several]
    keys = [
        key for key in dict.fromkeys(key for each in flat for key in each) if len({each.get(key) for each in flat}) > 1
    ]
    differ = [[key, *(each.get(key, "–") for each in flat)] for key in keys]
    splits = {told.record.get("data", {}).get("split") for told in several}
    same = (
        "All have the same split."
        if len(splits) == 1
        else "They have different splits: their numbers are of other rows."
    )
    head = ["", *(told.name for told in several)]
    paired = "Whether a difference is more than chance: tune compare."
    sections = [
        Section("Metrics", [Table(head, rows), Text(f"{same} {paired}", quiet=True)] if rows else []),
        Section("What differs", [Table(head, differ, words=range(len(head)))] if differ else []),
    ]
    return Part(f"{len(several)} runs side by side", "", ", ".join(told.name for told in several), sections)


def _measured(told: Told, name: str) -> str:
    value = told.metrics.get(name)
    ends = interval((told.record.get("intervals") or {}).get(name))
    return "–" if value is None else f"{number(value)} {ends}".strip()


def _choices(told: Told) -> dict[str, Any]:
    return {f"{group} (option)": option for group, option in told.record.get("choices", {}).items()}


def _flat(node: Any, before: str = "") -> dict[str, str]:
    """Dotted keys and their values as text."""
    found: dict[str, str] = {}
    for key, value in node.items():
        if not before and key in _NOT_OF_THE_RESULT:
            continue
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{key}.")
        elif key != "_target_":
            found[f"{before}{key}"] = str(value)
    return found
