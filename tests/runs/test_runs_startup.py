"""What only looks at configs starts fast, because it imports little. The times themselves are in benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from folders import facts, make_run, make_sweep, write_predictions

HEAVY = {"torch", "timm", "torchvision", "pytorch_lightning", "torchmetrics", "sklearn", "matplotlib", "rich", "PIL"}


def imports_of(folder, *words: str) -> set[str]:
    """Top-level packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "tune", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60, env=os.environ)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "freeze"], ["cat", "+experiment=quickstart"], ["validate", "quickstart"]], ids=" ".join
)
def test_looking_at_configs_imports_nothing_heavy(tmp_path, words):
    assert not imports_of(tmp_path, *words) & HEAVY


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["ls"]], ids=" ".join)
def test_what_composes_nothing_does_not_import_hydra(tmp_path, words):
    assert not imports_of(tmp_path, *words) & {"hydra", "omegaconf", *HEAVY}


@pytest.mark.parametrize("verb", ["run", "resume", "evaluate", "ls", "cat", "validate"])
def test_the_help_of_a_verb_does_not_import_torch(tmp_path, verb):
    assert not imports_of(tmp_path, verb, "--help") & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "runs"],
        ["status"],
        ["status", "5aee"],
        ["top", "5aee"],
        ["top", "run"],
        ["compare", "aa", "bb"],
        ["rm", "aa", "--yes"],
    ],
    ids=" ".join,
)
def test_looking_at_runs_imports_nothing_heavy(tmp_path, words):
    folder = tmp_path / "outputs" / "run"
    for name in ("aa", "bb"):
        run_dir = make_run(folder / f"2026-01-01T00-00-00-{name}", **facts())
        write_predictions(run_dir, ("cat", "dog"), [("1", "cat", "cat", (0.9, 0.1)), ("2", "dog", "dog", (0, 1))])
    make_run(make_sweep(folder / "sweep-5aee", [("k", ["lr=1"])]) / "1", ledger_key="k")
    assert not imports_of(tmp_path, *words) & HEAVY
