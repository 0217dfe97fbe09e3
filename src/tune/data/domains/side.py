"""What a side of `data=domains` says besides what its reader takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune.data.splits import Split
from tune.errors import DataError, Problem

_BY_LABEL = ("per_class", "fraction")


@dataclass(frozen=True)
class Side:
    """Keys of `data.source` and `data.target` besides those of their readers.

    Args:
        split: which of its rows train, validate and test, as far as `data.split` does not say it for both.
    """

    split: Split = field(default_factory=Split)


def separate_sides(node: Mapping[str, Any], shared: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Split]]:
    """The node of the reader without the splits of its sides, and the split of each side that is there.

    Args:
        node: of the reader, from `tune.data.options.separate`.
        shared: keys of `data.split`, which come before a side's own; those that limit the rows of a class are for the
            source alone.

    Raises:
        DataError: if the target's training rows would be chosen by labels that the run may not know.
    """
    reader, splits = dict(node), {}
    for domain in ("source", "target"):
        side = node.get(domain)
        if side is None:
            reader[domain] = None
            continue
        reader[domain] = {key: value for key, value in side.items() if key != "split"}
        asked = {**side.get("split", {}), **shared}
        if domain == "target":
            if wrong := [key for key in _BY_LABEL if key in side.get("split", {})]:
                text = "would choose training rows of the target by their labels; it is for the source"
                raise DataError(*(Problem(f"data.target.split.{key}", text) for key in wrong))
            asked = {key: value for key, value in asked.items() if key not in _BY_LABEL}
        splits[domain] = Split(**asked)
    return reader, splits
