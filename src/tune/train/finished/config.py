"""The config of a finished run, as its folder keeps it. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tune.config import gate
from tune.errors import ConfigError, Problem
from tune.run_dir import HIDDEN, read_json, run_id


def read_config(run_dir: Path, allow: list[str]) -> dict[str, Any]:
    """The config of a finished run.

    Raises:
        ConfigError: if it is not done, is no run of its own, or its config names a module that is not allowed.
    """
    name, record = run_id(run_dir), read_json(run_dir / "run.json")
    if (run_dir / "ensemble.json").is_file():
        raise ConfigError(Problem(name, "is an ensemble; take one of its members"))
    if record["status"] != "done":
        raise ConfigError(Problem(name, f"is {record['status']}; only a run that is done can be used"))
    text = (run_dir / "config.yaml").read_text()
    if HIDDEN in text:
        raise ConfigError(Problem(name, f"config.yaml holds a secret that was not stored ({HIDDEN})"))
    config = yaml.safe_load(text)
    if problems := gate.problems(config, gate.allowed_by_user(allow)):
        raise ConfigError(*problems)
    return config
