"""The keys that every ``data`` option takes besides those of its reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from tune.data.splits import Split
from tune.data.tasks.task import TaskOptions
from tune.ranges import Range


@dataclass(frozen=True)
class DataOptions:
    """What happens to the rows after they are read.

    Args:
        split: which rows train, validate and test.
        unreadable: what to do about an image that cannot be decoded: stop and list all (``error``), or go on without
            them and list all (``skip``).
        workers: processes that read images ahead; 0 reads in the training process. Results do not depend on it.
        fit: how an image gets the network's input size: ``crop`` the middle after the shorter side fits, ``stretch``
            both sides, or shrink until it fits and ``pad`` with the mean colour.
        sampler: ``shuffle`` takes each training row once per epoch; ``balanced`` takes every class equally often,
            rows of rare classes several times and some of a frequent one.
        bootstrap: train on as many rows drawn with replacement; a number other than this draws others.
        tasks: columns that are learned beside the label, by a name for each; with ``head=multi_task``.
    """

    split: Split = field(default_factory=Split)
    unreadable: Literal["error", "skip"] = "error"
    workers: Annotated[int, Range("[0, 256]")] = 0
    fit: Literal["crop", "stretch", "pad"] = "crop"
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    bootstrap: Annotated[int, Range("[0, inf)")] | None = None
    tasks: dict[str, TaskOptions] = field(default_factory=dict)


def separate(node: Mapping[str, Any]) -> tuple[DataOptions, dict[str, Any]]:
    """The shared keys of a checked ``data`` node, and the node that names the reader, without them."""
    shared = {field.name for field in fields(DataOptions)}
    given = {key: value for key, value in node.items() if key in shared}
    given["split"] = Split(**given.get("split", {}))
    given["tasks"] = {name: TaskOptions(**task) for name, task in given.get("tasks", {}).items()}
    return DataOptions(**given), {key: value for key, value in node.items() if key not in shared}
