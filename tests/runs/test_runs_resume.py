"""A run that is told to stop says how to go on, and goes on as itself; what cannot go on is refused."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest

LONG = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "scheduler=constant", "epochs=1000"]


@pytest.fixture(scope="module")
def done(tune_in, tmp_path_factory):
    tune = tune_in(tmp_path_factory.mktemp("done"))
    tune("run", *LONG[:-1], "epochs=1")
    return tune


def run_dir_of(tune) -> Path:
    (found,) = tune.runs()
    return found


def id_of(run_dir: Path) -> str:
    return run_dir.name.rpartition("-")[2]


def record_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "run.json").read_text())


def history_of(run_dir: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))


@contextlib.contextmanager
def training(tune, *words: str):
    """A run that is past its second epoch."""
    process = tune.start("run", *LONG, *words)
    try:
        until = time.monotonic() + 60
        while not any((run / "metrics.csv").exists() and len(history_of(run)) > 1 for run in tune.runs()):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_sigterm_is_75_and_the_run_goes_on_where_it_was(tune):
    with training(tune) as process:
        refused = tune("resume", "latest", code=2)
        assert f"still running, as process {process.pid}" in refused.stderr
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    run_dir = run_dir_of(tune)
    assert process.returncode == 75, output
    assert f"interrupted: SIGTERM   continue with: tune resume {id_of(run_dir)}" in output
    assert "Traceback" not in output
    record = record_of(run_dir)
    assert (record["status"], record["exit_code"], record["cause"]) == ("interrupted", 75, "SIGTERM")
    before = history_of(run_dir)
    refused = tune("resume", "latest", "epochs=1", code=2)
    assert f"{len(before)} epochs are behind this run already" in refused.stderr
    assert record_of(run_dir) == record

    epochs = len(before) + 2
    again = tune("resume", id_of(run_dir), f"epochs={epochs}", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["status"] == record_of(run_dir)["status"] == "done"
    assert record_of(run_dir)["epochs_before"] == len(before)
    after = history_of(run_dir)
    assert after[: len(before) - 1] == before[:-1]
    assert [row["epoch"] for row in after] == [str(number) for number in range(1, epochs + 1)]
    assert tune.runs() == [run_dir]


def test_ctrl_c_is_130_and_json_says_so(tune):
    with training(tune, "--json") as process:
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    answer = json.loads(output.splitlines()[-1])
    assert (answer["status"], answer["cause"]) == ("interrupted", "SIGINT")
    assert "Traceback" not in output


def test_a_run_that_is_done_is_not_resumed(done):
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")}
    refused = done("resume", "latest", "--json", code=2)
    assert "this run is done" in refused.stderr
    assert json.loads(refused.stdout)["status"] == "refused"
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")} == before


def test_a_resumed_run_takes_no_other_config(done, tune):
    """A run that is done stands in for one that was interrupted, which would take longer to make."""
    folder = tune.folder / "outputs" / "run"
    folder.mkdir(parents=True)
    run_dir = run_dir_of(done).rename(folder / run_dir_of(done).name)
    record = record_of(run_dir)
    (run_dir / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    name = id_of(run_dir)
    try:
        refused = tune("resume", name, "lr=1e-4", code=2)
        assert "lr" in refused.stderr
        assert "a resumed run keeps its own config; lr was 0.001" in refused.stderr
        assert f"To continue it: tune resume {name}." in refused.stderr
        again = " ".join([*LONG[:-1], "epochs=1", f"backbone.weights=run:{name}", "lr=1e-4"])
        assert f"To start anew from its weights: tune run {again}." in refused.stderr
        assert "May change: data.workers" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        (run_dir / "run.json").write_text(json.dumps(record))
        run_dir.rename(done.folder / "outputs" / "run" / run_dir.name)


def test_a_run_that_is_not_there_is_refused_with_those_that_are(done):
    refused = done("resume", "zzzz", code=2)
    assert id_of(run_dir_of(done)) in refused.stderr


def test_a_trial_is_left_to_its_sweep(tune):
    trial = tune.folder / "outputs" / "name" / "sweep-0a1b2c3d" / "2"
    trial.mkdir(parents=True)
    record = {"status": "failed", "ledger_key": "key", "overrides": [], "choices": {}}
    (trial / "run.json").write_text(json.dumps(record))
    done = tune("resume", "0a1b#2", code=2)
    assert "the command of its sweep runs again what is missing" in done.stderr
    assert json.loads((trial / "run.json").read_text()) == record


def test_a_secret_that_was_not_stored_is_not_taken_for_a_value(tune):
    run = tune.folder / "outputs" / "name" / "2026-01-01T00-00-00-abcdef"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"status": "interrupted", "overrides": [], "choices": {}}))
    (run / "config.yaml").write_text("logger:\n  api_key: '***'\n")
    assert "a secret that was not stored" in tune("resume", "abcdef", code=2).stderr
