from __future__ import annotations

import os

import pytest

from tune.cli.results.report import find
from tune.errors import ConfigError


@pytest.fixture
def output(tmp_path):
    for folder, name in (("mine/2026-11-21T01-45-12-7f3a91", "run.json"), ("mine/sweep-4b1e55aa", "sweep.json")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(("seconds", "newest"), [(1000, "7f3a91"), (3000, "sweep-4b1e55aa")])
def test_latest_is_the_newest_of_runs_and_sweeps(output, seconds, newest):
    os.utime(next(output.glob("*/*/run.json")), (2000, 2000))
    os.utime(next(output.glob("*/*/sweep.json")), (seconds, seconds))
    assert find("latest", str(output)).name.endswith(newest)


def test_without_a_run_latest_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="latest"):
        find("latest", str(tmp_path))
