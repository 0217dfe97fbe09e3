"""The config of a finished run, or of each member of an ensemble, as its folder keeps it. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tune.config import gate
from tune.errors import ConfigError, Problem
from tune.run_dir import HIDDEN, find_run, read_json, run_id


def read_config(run_dir: Path, allow: list[str]) -> dict[str, Any]:
    """The config of a finished run.

    Raises:
        ConfigError: if it is not done, is no run of its own, or its config names a module that is not allowed.
    """
    name, record = run_id(run_dir), read_json(run_dir / "run.json")
    if "ensemble" in record:
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


def members_of(run_dir: Path, output: str) -> list[Path]:
    """Folders of the runs that an ensemble, or a soup, is made of; empty for a run.

    Raises:
        ConfigError: if one is gone.
    """
    if (together := run_dir / "ensemble.json").is_file():
        return [find_run(place, output) for place in read_json(together)["members"]]
    record = read_json(run_dir / "run.json")
    return [find_run(place, output) for place in record["ensemble"]["members"]] if "ensemble" in record else []


def read_configs(run_dir: Path, output: str, allow: list[str]) -> dict[Path, dict[str, Any]]:
    """Folder and config of a finished run, or of each member of an ensemble, the first one first.

    Raises:
        ConfigError: as `read_config`, or if a member is gone.
    """
    return {each: read_config(each, allow) for each in members_of(run_dir, output) or [run_dir]}
