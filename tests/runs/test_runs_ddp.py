"""Two processes on one CPU: one run folder, each row once, the numbers of one process, and no process left."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from processes import is_running

# The last batch is short: 57 rows are 36 train / 9 val / 12 test, so two processes have 5 and 4 rows to validate.
FEW = ["data=synthetic", "data.rows=57", "backbone.input_size=32", "epochs=2", "batch_size=16", "precision=32-true"]
FEW += ["scheduler=constant", "lr=1e-2"]
TWO = ["trainer=ddp", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def both(tune_in, tmp_path_factory):
    """Run folders of the same config on one process and on two."""
    tune = tune_in(tmp_path_factory.mktemp("ddp"))
    tune("run", *FEW, "trainer=cpu", "name=one")
    tune("run", *FEW, *TWO, "name=two")
    return [tune.folder / "outputs" / name for name in ("one", "two")]


def only_run(folder: Path) -> Path:
    (found,) = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return found


def record_of(run_dir: Path) -> dict:
    return json.loads((run_dir / "run.json").read_text())


def rows_of(run_dir: Path, part: str) -> list[dict[str, str]]:
    return list(csv.DictReader((run_dir / "predictions" / f"{part}.csv").read_text().splitlines()))


def test_two_processes_leave_one_run_folder_with_the_same_files(both):
    one, two = (only_run(folder) for folder in both)
    names = [{path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} for run in (one, two)]
    assert names[0] == names[1]
    assert record_of(two)["status"] == "done"


def test_each_row_is_predicted_once(both):
    one, two = (only_run(folder) for folder in both)
    for part in ("val", "test"):
        seen = [row["row"] for row in rows_of(two, part)]
        assert len(seen) == len(set(seen)) == record_of(two)["counts"][part]
        assert seen == [row["row"] for row in rows_of(one, part)]


def test_two_processes_give_the_numbers_of_one(both):
    one, two = (only_run(folder) for folder in both)
    assert record_of(two)["metrics"] == pytest.approx(record_of(one)["metrics"], abs=1e-4)
    for part in ("val", "test"):
        for left, right in zip(rows_of(one, part), rows_of(two, part), strict=True):
            for name in left:
                if name.startswith("p_"):
                    assert float(left[name]) == pytest.approx(float(right[name]), abs=1e-4)
    history = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (one, two)]
    for left, right in zip(*history, strict=True):
        assert left["step"] == right["step"]
        assert float(left["train/loss"]) == pytest.approx(float(right["train/loss"]), abs=1e-4)


@pytest.mark.slow
def test_two_processes_run_inside_a_sweep(both, tune):
    done = tune("run", "-m", *FEW, *TWO, "lr=1e-3,1e-2", "--json")
    trials = json.loads(done.stdout.splitlines()[-1])["trials"]
    assert [trial["status"] for trial in trials] == ["done", "done"]
    assert trials[1]["metrics"] == pytest.approx(record_of(only_run(both[1]))["metrics"], abs=1e-6)
    (sweep_dir,) = tune.folder.glob("outputs/run/*")
    assert sorted(path.name for path in sweep_dir.iterdir() if path.is_dir()) == ["1", "2"]
    for trial in trials:
        seen = [row["row"] for row in rows_of(tune.folder / trial["run_dir"], "test")]
        assert len(seen) == len(set(seen)) == 12


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("number", "code", "to_all"),
    [
        pytest.param(signal.SIGTERM, 75, False, id="SIGTERM", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, True, id="Ctrl-C in a terminal"),
        pytest.param(signal.SIGKILL, -9, False, id="SIGKILL", marks=pytest.mark.slow),
    ],
)
def test_when_the_first_process_ends_so_does_the_second(tune, number, code, to_all):
    process = tune.start("run", *FEW, *TWO, "epochs=1000")
    try:
        until = time.monotonic() + 60
        while not list(tune.folder.glob("outputs/run/*/metrics.csv")) and time.monotonic() < until:
            time.sleep(0.05)
        below = children(process.pid)
        assert below
        os.killpg(process.pid, number) if to_all else process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == code, output
        until = time.monotonic() + 10
        while (left := [pid for pid in below if is_running(pid)]) and time.monotonic() < until:
            time.sleep(0.05)
        assert not left
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    status = record_of(only_run(tune.folder / "outputs" / "run"))["status"]
    assert status == ("running" if number == signal.SIGKILL else "interrupted")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
