"""Images that a chain has trained on before it is tested on them. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tune.features.digests import array_digests
from tune.train.rows import data_node, read_rows


def seen_before(configs: list[dict[str, Any]]) -> int:
    """How many validation and test images of the last stage are training images of an earlier one.

    Arrays are compared by content, files by where they lie.

    Args:
        configs: of the stages, in order.
    """
    trained: set[str] = set()
    for config in configs[:-1]:
        trained |= _images(config, "train")
    return len(trained & (_images(configs[-1], "val") | _images(configs[-1], "test")))


def _images(config: dict[str, Any], part: str) -> set[str]:
    table, divide = read_rows(data_node(config))
    table, parts = divide(table)
    images = table.take(parts.rows(part)).images
    return {str(each.resolve()) if isinstance(each, Path) else array_digests(each[None])[0] for each in images}
