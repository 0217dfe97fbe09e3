from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tune.errors import ConfigError
from tune.run_dir import (
    atomic_write,
    create_run_dir,
    find_run,
    is_alive,
    process_identity,
    read_json,
    run_id,
    write_json,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, "old")
    with pytest.raises(TypeError):
        atomic_write(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path):
    path = tmp_path / "file"
    program = f"""
from pathlib import Path
from tune.run_dir import atomic_write
number = 0
while True:
    atomic_write(Path({str(path)!r}), str(number % 10) * 100_000)
    number += 1
"""
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program])
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        text = path.read_text()
        assert len(text) == 100_000
        assert len(set(text)) == 1


def test_run_folders_are_never_shared(tmp_path):
    folders = {create_run_dir(tmp_path, "name") for _ in range(20)}
    assert len(folders) == 20
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-[0-9a-f]{6}", folder.name) for folder in folders)


def test_a_run_is_found_by_path_id_sweep_number_and_latest(tmp_path):
    run = create_run_dir(tmp_path, "name")
    write_json(run / "run.json", {})
    trial = tmp_path / "name" / "sweep-4b1e00ff" / "2"
    trial.mkdir(parents=True)
    write_json(trial / "run.json", {})
    assert find_run(str(run), tmp_path) == run
    assert find_run(run_id(run)[:4], tmp_path) == run
    assert find_run("latest", tmp_path) == run
    assert find_run("4b1e#2", tmp_path) == trial
    assert run_id(trial) == "4b1e00ff#2"
    write_json(trial.parent / "sweep.json", {"trials": [{}, {}]})
    with pytest.raises(ConfigError, match=f"Last runs: {run_id(run)}; sweeps: 4b1e00ff"):
        find_run("zzzz", tmp_path)
    for word in ("*", "?", "[4]b1e", "**", "a/1-*", "*#2"):  # names, not patterns
        with pytest.raises(ConfigError, match="no such run"):
            find_run(word, tmp_path)
    with pytest.raises(ConfigError, match="the sweep has 2 trials"):
        find_run("4b1e#*", tmp_path)


@pytest.mark.parametrize("name", ["4b1e00ff", "sweep-4b1e", "sweep-4b1e00ff", "outputs/name/sweep-4b1e00ff"])
def test_a_trial_is_found_by_any_name_of_its_sweep(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    sweep = Path("outputs/name/sweep-4b1e00ff")
    for number in (1, 2):
        (sweep / str(number)).mkdir(parents=True)
        write_json(sweep / str(number) / "run.json", {})
    write_json(sweep / "sweep.json", {"trials": [{}, {}, {}]})
    assert find_run(f"{name}#2") == sweep / "2"
    for number in ("4", "0", "x", "-1"):
        with pytest.raises(ConfigError, match="the sweep has 3 trials: 4b1e00ff#1 to 4b1e00ff#3"):
            find_run(f"{name}#{number}")
    with pytest.raises(ConfigError, match="has no folder: it was not started, or another run"):
        find_run(f"{name}#3")
    with pytest.raises(ConfigError, match="is a sweep; take one of its trials: 4b1e00ff#1 to 4b1e00ff#3"):
        find_run(name)


def test_a_number_that_json_cannot_say_becomes_null(tmp_path):
    write_json(tmp_path / "x.json", {"loss": float("nan"), "list": [float("inf"), 1.5]})
    assert read_json(tmp_path / "x.json") == {"loss": None, "list": [None, 1.5]}
    assert "NaN" not in (tmp_path / "x.json").read_text()


def test_a_dead_process_is_not_alive_and_neither_is_one_that_took_its_number():
    me = process_identity()
    assert is_alive(me)
    assert not is_alive({**me, "pid_started": "1"})
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert not is_alive({**me, "pid": child.pid})
    json.dumps(me)
