"""Sweeps through the real command line: what dies costs itself alone, and what is done is never done again."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from processes import descendants, is_running

FEW = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "epochs=1"]
GRID = [*FEW, "lr=1e-3,1e-2", "batch_size=16,24"]

# A loss that does what its argument says in the first step of the training. "switch" raises as long as a file is there.
MISBEHAVE = """
import os, pathlib, signal, time
import torch

class Misbehave(torch.nn.CrossEntropyLoss):
    def __init__(self, act: str = "none"):
        super().__init__()
        self.act = act

    def forward(self, output, batch):
        match self.act:
            case "raise":
                raise ValueError("no such thing\\nsecond line")
            case "memory":
                raise torch.OutOfMemoryError("tried to allocate 3 TiB")
            case "exit":
                os._exit(7)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(600)
            case "switch":
                if pathlib.Path("broken").exists():
                    raise ValueError("switched off")
        return super().forward(output.logits, batch.labels)
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def finished(tune_in, tmp_path_factory):
    """A sweep that nothing disturbed: the command line in its folder, and its answer."""
    tune = tune_in(tmp_path_factory.mktemp("finished"))
    return tune, tune("run", "-m", *GRID, "--json")


@pytest.fixture(scope="module")
def wounded(tune_in, tmp_path_factory):
    """A sweep of which most trials die, each in its own way."""
    tune = tune_in(tmp_path_factory.mktemp("wounded"))
    allow_misbehaviour(tune.folder)
    words = ["-m", *FEW, "loss=misbehave", "loss.act=none,raise,exit,kill,hang,memory,late", "--allow", "misbehave"]
    return tune, tune("run", *words, "--time-limit", "12", "--json", code=3)


def allow_misbehaviour(folder: Path) -> None:
    (folder / "misbehave.py").write_text(MISBEHAVE)
    (folder / "conf" / "loss").mkdir(parents=True)
    (folder / "conf" / "loss" / "misbehave.yaml").write_text("# Dies as told.\n_target_: misbehave.Misbehave\n")


def answer_of(done) -> dict:
    return json.loads(done.stdout.splitlines()[-1])


def table_of(done) -> list[str]:
    """The lines of the answer that hold no time."""
    return [line for line in done.stdout.splitlines() if line.startswith("  ")]


def sweep_dir_of(tune, done) -> Path:
    return tune.folder / answer_of(done)["sweep_dir"]


def records(sweep_dir: Path) -> dict[str, bytes]:
    """run.json of each trial, to the byte."""
    return {path.parent.name: path.read_bytes() for path in sweep_dir.glob("*/run.json")}


def status_of(record: bytes) -> str:
    return json.loads(record)["status"]


def summary_without_seconds(sweep_dir: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((sweep_dir / "summary.csv").read_text().splitlines()))
    assert all(float(row.pop("seconds")) > 0 for row in rows)
    return rows


def wait_until(is_so, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def test_the_answer_names_every_trial_in_the_order_of_the_grid(finished):
    tune, done = finished
    answer = answer_of(done)
    assert answer.keys() == {"sweep_dir", "status", "seconds", "fused_groups", "trials"}
    assert (answer["status"], answer["fused_groups"]) == ("done", 2)  # by batch_size
    assert answer["seconds"] > 0
    assert (tune.folder / answer["sweep_dir"] / "summary.csv").is_file()
    grid = [(lr, size) for lr in (1e-3, 1e-2) for size in (16, 24)]
    for (lr, size), trial in zip(grid, answer["trials"], strict=True):
        assert trial.keys() == {"run_dir", "status", "cause", "overrides", "metrics"}
        said = dict(word.split("=") for word in trial["overrides"])
        assert (float(said["lr"]), int(said["batch_size"])) == (lr, size)
        assert (trial["status"], trial["cause"]) == ("done", "")
        assert {"val/accuracy", "test/accuracy", "test/auroc"} <= trial["metrics"].keys()
        record = json.loads((tune.folder / trial["run_dir"] / "run.json").read_text())
        assert record["metrics"] == trial["metrics"]


def test_table_and_summary_are_sorted_by_the_objective(finished):
    tune, done = finished
    shown = [float(line.split()[0]) for line in table_of(done)[1:]]
    values = [trial["metrics"]["val/accuracy"] for trial in answer_of(done)["trials"]]
    assert shown == pytest.approx(sorted(values, reverse=True), abs=6e-4)
    summary = summary_without_seconds(sweep_dir_of(tune, done))
    assert [float(row["val/accuracy"]) for row in summary] == sorted(values, reverse=True)


def test_the_best_trial_alone_holds_the_whole_network(finished):
    from safetensors.torch import load_file

    tune, done = finished
    sweep_dir = sweep_dir_of(tune, done)
    best = summary_without_seconds(sweep_dir)[0]["number"]
    for number in "1234":
        names = load_file(sweep_dir / number / "model.safetensors").keys()
        assert any(name.startswith("backbone.") for name in names) == (number == best)


def test_the_same_command_runs_nothing_and_ends_alike(finished):
    tune, first = finished
    before = records(sweep_dir_of(tune, first))
    again = tune("run", "-m", *GRID, "--json")
    assert records(sweep_dir_of(tune, again)) == before
    assert table_of(again) == table_of(first)
    assert answer_of(again)["trials"] == answer_of(first)["trials"]


@pytest.mark.slow
def test_a_wider_grid_runs_only_what_is_new(finished):
    tune, first = finished
    wide = tune("run", "-m", *GRID[:-1], "batch_size=16,24,38", "--json")
    assert "6 trials: 2 to run" in wide.stderr
    known = {trial["run_dir"] for trial in answer_of(first)["trials"]}
    used = [trial["run_dir"] for trial in answer_of(wide)["trials"]]
    assert known < set(used)
    new = {(tune.folder / path).parent for path in used if path not in known}
    assert len(new) == 1
    assert len(records(new.pop())) == 2


@linux
def test_a_driver_killed_in_the_middle_leaves_no_process_and_its_command_goes_on(tune, finished):
    process = tune.start("run", "-m", *GRID, "--json")

    def second_group_runs() -> bool:
        found = {path.parent.name: path.read_bytes() for path in tune.folder.glob("outputs/run/sweep-*/*/run.json")}
        assert process.poll() is None, process.communicate()[0]
        return "2" in found and status_of(found["2"]) == "running"

    wait_until(second_group_runs)
    below = descendants(process.pid)
    assert len(below) >= 3  # server, guard, trial
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(is_running(pid) for pid in below), seconds=10)
    (sweep_dir,) = tune.folder.glob("outputs/run/sweep-*")
    before = records(sweep_dir)
    done = {number for number, record in before.items() if status_of(record) == "done"}
    assert done == {"1", "3"}

    again = tune("run", "-m", *GRID, "--json")
    assert "4 trials = 1 fused group: 2 to run, 1 at a time, 2 done before" in again.stderr
    after = records(sweep_dir)
    assert all(after[number] == before[number] for number in done)
    whole, undisturbed = finished
    assert table_of(again) == table_of(undisturbed)
    assert summary_without_seconds(sweep_dir) == summary_without_seconds(sweep_dir_of(whole, undisturbed))


@linux
@pytest.mark.parametrize("words", [[], ["sweep.fuse=false"]], ids=["as one", "one by one"])
def test_ctrl_c_ends_the_trial_and_the_sweep(tune, words):
    process = tune.start("run", "-m", *FEW, "epochs=500", "lr=1e-3,1e-2", *words, "--json")
    begun = "sweep-*/1/metrics.csv" if words else "sweep-*/2/run.json"  # a group writes metrics when it ends
    wait_until(lambda: any(tune.folder.glob(f"outputs/run/{begun}")) or process.poll() is not None)
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert not any(is_running(pid) for pid in below)
    answer = json.loads(output.splitlines()[-1])
    assert answer["status"] == "interrupted"
    assert [trial["status"] for trial in answer["trials"]] == ["interrupted", "missing" if words else "interrupted"]
    assert "Traceback" not in output


def test_trials_that_die_cost_themselves_alone(wounded):
    tune, done = wounded
    trials = answer_of(done)["trials"]
    assert answer_of(done)["status"] == "failed"
    causes = {trial["overrides"][-1].partition("=")[2]: (trial["status"], trial["cause"]) for trial in trials}
    assert causes.pop("none") == causes.pop("late") == ("done", "")
    assert causes.pop("raise")[1].endswith("ValueError: no such thing")
    assert causes == {
        "exit": ("failed", "exit code 7"),
        "kill": ("failed", "killed by SIGKILL"),
        "hang": ("failed", "timed out after 12 s"),
        "memory": ("failed", "out of memory"),
    }
    assert [status_of(record) for _, record in sorted(records(sweep_dir_of(tune, done)).items())] == [
        "done",
        *["failed"] * 5,
        "done",
    ]


def test_each_that_died_is_named_when_it_happens_and_at_the_end_with_its_log(wounded):
    tune, done = wounded
    for trial in answer_of(done)["trials"][1:-1]:
        number = Path(trial["run_dir"]).name
        log = Path(trial["run_dir"]) / "run.log"
        line = f"trial {number}/7 failed: {trial['cause']} ({trial['overrides'][-1]})   log: {log}"
        assert line in done.stderr.splitlines()
        assert line in done.stdout.splitlines()
        assert (tune.folder / log).is_file()
    assert "second line" in (tune.folder / answer_of(done)["trials"][1]["run_dir"] / "run.log").read_text()
    assert "2 done, 5 failed" in done.stdout
    assert "--retry-failed includes trials 2, 3, 4, 5, 6" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_failed_trials_run_again_only_when_asked_to(tune):
    allow_misbehaviour(tune.folder)
    (tune.folder / "broken").touch()
    words = ["-m", *FEW, "loss=misbehave", "loss.act=none,switch", "--allow", "misbehave", "--json"]
    sweep_dir = sweep_dir_of(tune, tune("run", *words, code=3))
    before = records(sweep_dir)
    (tune.folder / "broken").unlink()
    tune("run", *words, code=3)
    assert records(sweep_dir) == before
    again = tune("run", *words, "--retry-failed")
    after = records(sweep_dir)
    assert after["1"] == before["1"]
    assert status_of(after["2"]) == "done"
    assert after["2.attempt1"] == before["2"]
    assert [trial["status"] for trial in answer_of(again)["trials"]] == ["done", "done"]


@pytest.mark.slow
def test_an_experiment_with_sweep_params_is_a_sweep_without_m(tune):
    words = ["+experiment=smoke/sweep", "data.rows=60", "backbone.input_size=32", "epochs=1", "batch_size=16"]
    answer = answer_of(tune("run", *words, "--json"))
    said = [dict(word.split("=") for word in trial["overrides"]) for trial in answer["trials"]]
    assert [float(each["lr"]) for each in said] == [1e-3, 1e-2]
    assert answer["status"] == "done"


@pytest.mark.slow
def test_a_sweep_over_the_share_of_the_rows_says_what_more_of_them_would_bring(tune):
    (tune.folder / "conf" / "experiment").mkdir(parents=True)
    (tune.folder / "conf" / "experiment" / "sizes.yaml").write_text(
        "# @package _global_\n# Two ways to train, on a part of the rows and on all.\n"
        "epochs: 1\nsweep:\n  cases:\n    deep: [freeze=deep, lr=1e-2]\n"
        "    scratch: [freeze=full, backbone.weights=none, lr=1e-3]\n  params:\n    data.split.fraction: 0.5,1\n"
    )
    words = ["experiment=sizes", "data=synthetic", "data.rows=60", "backbone.input_size=32", "epoch_steps=1"]
    lines = tune("run", *words, "batch_size=16").stdout.splitlines()
    told = lines[lines.index("test/accuracy by share of the training rows") + 1 :]
    assert [line.split()[:2] for line in told[:2]] == [["deep", "0.5:"], ["scratch", "0.5:"]]
    assert all("0.5 → 1 brought" in line for line in told[:2])
    assert told[2].startswith("  scratch, from random weights, overtakes: deep ")
    choices = [json.loads(path.read_text())["choices"]["case"] for path in tune.folder.glob("outputs/*/*/*/run.json")]
    assert sorted(choices) == ["deep", "deep", "scratch", "scratch"]
