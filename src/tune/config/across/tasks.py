"""What `data.tasks` asks of the rest of a config, and the metrics that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tune.config.schema import TASK_METRICS
from tune.errors import Problem


def task_problems(cfg: dict[str, Any], head_tells: bool) -> Iterator[Problem]:
    """What does not go with tasks, or with a head for them.

    Args:
        cfg: the composed config.
        head_tells: whether the head can tell tasks.
    """
    tasks = _tasks(cfg)
    if head_tells and not tasks:
        yield Problem(
            "data.tasks", "needs a value: head=multi_task tells columns beside the label. Without any: head=linear"
        )
    if not tasks:
        return
    if not head_tells:
        yield Problem(
            "data.tasks",
            "has no effect: this head tells the label alone. Take head=multi_task, or leave them out: ~data.tasks",
        )
    for name in ("mixup", "cutmix"):
        if isinstance(cfg.get("augment"), dict) and cfg["augment"].get(name):
            why = "mixes the labels of two rows, which those of data.tasks (numbers, missing ones) do not allow"
            yield Problem(f"augment.{name}", f"{why}; leave it at 0")
    learned = isinstance(cfg.get("head"), dict) and cfg["head"].get("weights") == "uncertainty"
    for name, task in tasks.items():
        if learned and "weight" in task:
            text = "has no effect: head.weights=uncertainty learns it. Leave it out"
            yield Problem(f"data.tasks.{name}.weight", text)


def task_objectives(cfg: dict[str, Any]) -> list[str]:
    """Metrics of the tasks on validation rows."""
    return [
        f"val/{name}/{metric}"
        for name, task in _tasks(cfg).items()
        for metric in TASK_METRICS.get(task.get("kind", ""), ())
    ]


def _tasks(cfg: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those that are mappings; `check` complains about the others by itself."""
    tasks = cfg["data"].get("tasks") if isinstance(cfg.get("data"), dict) else None
    return {name: task for name, task in tasks.items() if isinstance(task, dict)} if isinstance(tasks, dict) else {}
