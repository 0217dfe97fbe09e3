"""`run:latest` is another run tomorrow: it becomes the run that it is today, so that a resumed run means the same."""

from __future__ import annotations

from typing import Any

from tune.run_dir import find_run, run_id

LATEST = "run:latest"


def pin_latest(cfg: dict[str, Any]) -> str:
    """Put the id of the newest run in the place of every `run:latest` of a config.

    Returns:
        A line for the user; empty where there is none.

    Raises:
        ConfigError: if there is no run yet.
    """
    if LATEST not in str(cfg):
        return ""
    name = run_id(find_run("latest", cfg["output"]))
    _replace(cfg, f"run:{name}")
    return f"note: {LATEST} is run:{name}"


def _replace(value: Any, pinned: str) -> None:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if item == LATEST:
            value[key] = pinned
        else:
            _replace(item, pinned)
