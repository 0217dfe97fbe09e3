from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tune.train.sweep.processes import Ended, Processes
from tune.train.sweep.shares import gpu_env, threads_each


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes("sweep_trials:trial", [], 1, tmp_path / "server.log") as started:
        yield started


def start(processes: Processes, folder: Path, number: int = 1, limit_s: float | None = None, **config) -> Path:
    run_dir = folder / "sweep" / str(number)
    run_dir.mkdir(parents=True)
    job = {"config": {"lr": 0.001, **config}, "run_dir": str(run_dir), "record": {}}
    processes.start(number, job, run_dir / "run.log", env={}, limit_s=limit_s, grace_s=0.2)
    return run_dir


def run(processes: Processes, folder: Path, **settings) -> tuple[Ended, str]:
    run_dir = start(processes, folder, **settings)
    (ended,) = processes.wait()
    return ended, (run_dir / "run.log").read_text()


def is_gone(pid: int) -> bool:
    """Whether a process has ended, within two seconds; a dead one that nobody asked after counts as gone."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                return True
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("do", "code", "cause"),
    [
        ("finish", 0, "ended without a result"),
        ("raise", 1, "raised ValueError: no such thing"),
        ("memory", 1, "out of memory"),
        ("sys.exit", 5, "exit code 5"),
        ("os._exit", 7, "exit code 7"),
        ("os._exit(0)", 0, "ended without a result"),
        ("kill", None, "killed by SIGKILL"),
        ("segfault", None, "segmentation fault"),
    ],
)
def test_the_end_of_a_trial_is_put_into_words(processes, tmp_path, do, code, cause):
    ended, log = run(processes, tmp_path, do=do)
    assert (ended.code, ended.cause, ended.timed_out) == (code, cause, False)
    assert "trial with lr 0.001" in log


def test_the_traceback_is_in_the_log(processes, tmp_path):
    assert "ValueError: no such thing\nsecond line" in run(processes, tmp_path, do="raise")[1]


@pytest.mark.parametrize("do", ["hang", "hang deaf"])
def test_a_trial_is_ended_at_its_time_limit(processes, tmp_path, do):
    ended, _ = run(processes, tmp_path, do=do, limit_s=0.3)
    assert (ended.cause, ended.timed_out) == ("timed out after 0.3 s", True)
    assert ended.seconds < 2


def test_workers_of_a_trial_end_with_it(processes, tmp_path):
    run(processes, tmp_path, do="die with worker", worker_pid=str(tmp_path / "pid"))
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_closing_ends_trials_their_workers_and_the_server(processes, tmp_path):
    start(processes, tmp_path, do="hang with worker", worker_pid=str(tmp_path / "pid"))
    wait_for(tmp_path / "pid")
    processes.close()
    assert is_gone(int((tmp_path / "pid").read_text()))
    assert not (tmp_path / "server.log").exists()


def test_killing_the_server_kills_its_trials_and_the_next_trial_runs(processes, tmp_path):
    start(processes, tmp_path, do="hang with worker", worker_pid=str(tmp_path / "pid"))
    wait_for(tmp_path / "pid")
    assert processes.wait(0.1) == []
    os.kill(processes._server.pid, signal.SIGKILL)
    (ended,) = processes.wait()
    assert ended.cause.startswith("killed by SIGKILL")
    assert is_gone(int((tmp_path / "pid").read_text()))
    assert run(processes, tmp_path, number=2)[0].code == 0


def test_a_trial_that_is_asked_to_stop_can_say_goodbye(processes, tmp_path):
    run_dir = start(processes, tmp_path, do="hang")
    wait_for(run_dir / "run.json")
    processes.stop(grace_s=5)
    (ended,) = processes.wait()
    assert (ended.code, ended.cause) == (130, "interrupted")


def test_a_module_that_cannot_be_preloaded_is_left_to_the_trial(tmp_path):
    with Processes("sweep_trials:trial", ["no_such_module"], 1, tmp_path / "server.log") as processes:
        assert run(processes, tmp_path)[0].code == 0
    assert "no_such_module" in (tmp_path / "server.log").read_text()


def test_trials_know_their_threads(processes, tmp_path):
    assert "threads 1 argv" in run(processes, tmp_path, do="threads")[1]


def test_threads_are_divided(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert [threads_each(jobs) for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]


def test_each_trial_gets_one_gpu_where_there_are_several():
    gpus = ["0", "1", "2", "3"]
    assert [gpu_env(gpus, slot, {})["CUDA_VISIBLE_DEVICES"] for slot in range(5)] == ["0", "1", "2", "3", "0"]
    assert gpu_env(gpus, 1, {"trainer": {"devices": 2}}) == {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert gpu_env(gpus, 1, {"trainer": {"devices": "auto"}}) == {}
    assert gpu_env(["0"], 1, {}) == {}


def wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists() and path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not come")
