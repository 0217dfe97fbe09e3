from __future__ import annotations

import os

import pytest

from tune.config.across.latest import pin_latest
from tune.errors import ConfigError


def made(folder, name, at):
    run = folder / "some" / name
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    os.utime(run / "run.json", (at, at))


def test_the_newest_run_takes_the_place_of_latest_wherever_it_stands(tmp_path):
    made(tmp_path, "2026-01-01T00-00-00-aaaaaa", 2000)
    made(tmp_path, "2026-01-02T00-00-00-bbbbbb", 1000)  # begun later, ended earlier
    cfg = {"output": str(tmp_path), "backbone": {"weights": "run:latest"}, "list": [{"teacher": "run:latest"}, 1]}
    assert pin_latest(cfg) == "note: run:latest is run:aaaaaa"
    assert cfg["backbone"] == {"weights": "run:aaaaaa"}
    assert cfg["list"] == [{"teacher": "run:aaaaaa"}, 1]


def test_a_config_without_it_is_left_alone(tmp_path):
    cfg = {"output": str(tmp_path), "name": "latest"}
    assert pin_latest(cfg) == ""
    assert cfg == {"output": str(tmp_path), "name": "latest"}


def test_the_latest_of_no_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such run"):
        pin_latest({"output": str(tmp_path), "weights": "run:latest"})
