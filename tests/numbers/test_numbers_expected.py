"""Every experiment gives what its `expected:` says. Minutes to hours: pytest -m slow tests/numbers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tune.config.compose import ConfigTree, compose

TREE = ConfigTree()


@pytest.mark.slow
@pytest.mark.parametrize("name", TREE.experiments())
def test_the_experiment_gives_what_it_promises(name, tmp_path):
    expected = compose(TREE, [f"experiment={name}"]).cfg["expected"]
    assert expected is not None, f"{name} states no expected:"
    command = [sys.executable, "-m", "tune", "run", f"experiment={name}", f"output={tmp_path}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * 3600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    runs = answer.get("ensembles") or answer.get("trials", [answer])
    best = max(run["metrics"][expected["metric"]] for run in runs)
    assert best == pytest.approx(expected["value"], abs=expected["within"])
