"""What a side of `data=domains` says besides what its reader takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tune.data.splits import Split


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
        shared: keys of `data.split`, which come before a side's own.
    """
    reader, splits = dict(node), {}
    for domain in ("source", "target"):
        side = node.get(domain)
        if side is None:
            reader[domain] = None
            continue
        reader[domain] = {key: value for key, value in side.items() if key != "split"}
        splits[domain] = Split(**{**side.get("split", {}), **shared})
    return reader, splits
