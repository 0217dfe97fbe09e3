from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from folders import make_run, make_sweep
from tune.errors import ConfigError
from tune.report.runs.collect import DEAD, UNREADABLE, collect, find_latest, find_sweep, read_entry
from tune.report.runs.files import checkpoints, needs, num_bytes, weights
from tune.run_dir import process_identity


def test_runs_and_sweeps_come_in_the_order_they_were_written_and_trials_only_with_their_sweep(tmp_path):
    make_run(tmp_path / "b" / "2026-01-01T00-00-00-aaaaaa", at=30)
    make_run(tmp_path / "a" / "2026-01-01T00-00-00-bbbbbb", at=20)
    make_run(tmp_path / "a" / "chain-12345678", at=25)
    make_run(tmp_path / "a" / "chain-12345678" / "stage-1", at=24)
    sweep = make_sweep(tmp_path / "a" / "sweep-5aee4b1e", [("k1", ["lr=1"]), ("k2", ["lr=2"])], at=10)
    make_run(sweep / "1", at=12, ledger_key="k1")
    make_run(sweep / "ensemble", at=13, ensemble={"how": "average", "members": ["1", "2"]})
    (tmp_path / "a" / "no-run").mkdir()
    entries, sweeps = collect(tmp_path)
    assert [entry.id for entry in entries] == ["5aee4b1e#ensemble", "bbbbbb", "12345678", "aaaaaa"]
    assert entries[0].overrides == ["average of 2"]
    assert [(each.id, each.written, each.counts(), each.seconds) for each in sweeps] == [
        ("5aee4b1e", 12, {"done": 1, "missing": 1}, 0),
    ]
    assert find_latest(tmp_path) == tmp_path / "b" / "2026-01-01T00-00-00-aaaaaa"
    (sweep / "summary.csv").write_text("")
    os.utime(sweep / "summary.csv", (31, 31))
    assert find_latest(tmp_path) == sweep
    assert collect(tmp_path)[1][0].seconds == 21  # from its first file to its last
    make_sweep(sweep, [], at=40, seconds=21)  # the command was given again, and was killed
    assert collect(tmp_path)[1][0].seconds == 21


def test_a_sweep_counts_what_another_has_done_and_not_what_was_another_config(tmp_path):
    narrow = make_sweep(tmp_path / "a" / "sweep-1111", [("k1", ["lr=1"]), ("k2", ["lr=2"])], at=1)
    make_run(narrow / "1", ledger_key="k1")
    make_run(narrow / "2", ledger_key="k2", status="failed", cause="no memory")
    grid = [("k1", ["lr=1"]), ("k2", ["lr=2"]), ("k3", ["lr=3"]), ("k3", ["lr=3.0"])]
    wide = make_sweep(tmp_path / "a" / "sweep-2222", grid, at=2)
    make_run(wide / "2", ledger_key="old")
    make_run(wide / "3", ledger_key="k3", status="diverged")
    sweep = find_sweep("2222", tmp_path)
    assert sweep is not None
    # A failure of another sweep is not taken over; two equal points of the grid share one run.
    assert [trial.status for trial in sweep.trials] == ["done", "missing", "diverged", "diverged"]
    assert sweep.trials[0].entry is not None
    assert sweep.trials[0].entry.run_dir == narrow / "1"


def test_a_running_run_whose_process_is_gone_is_dead_and_foreign_json_unreadable(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = process_identity()
    alive = read_entry(make_run(tmp_path / "a" / "x-1", status="running", **mine))
    dead = read_entry(make_run(tmp_path / "a" / "x-2", status="running", **{**mine, "pid": ended.pid}))
    for name, text in (("x-3", "{not json"), ("x-4", "[]"), ("x-5", '{"learning": "rate"}')):
        (make_run(tmp_path / "a" / name) / "run.json").write_text(text)
    others = [read_entry(tmp_path / "a" / name) for name in ("x-3", "x-4", "x-5")]
    assert [entry.status for entry in (alive, dead, *others) if entry] == ["running", DEAD, *[UNREADABLE] * 3]


def test_a_sweep_is_found_by_folder_start_of_id_and_latest(tmp_path, monkeypatch):
    for name, at in (("sweep-5aee", 20), ("sweep-5abb", 10)):
        make_sweep(tmp_path / "a" / name, [("k", [])], at=at)
    found = [find_sweep(word, tmp_path) for word in ("5ae", "sweep-5ab", str(tmp_path / "a" / "sweep-5abb"), "latest")]
    assert [sweep.id for sweep in found if sweep] == ["5aee", "5abb", "5abb", "5aee"]
    monkeypatch.chdir(tmp_path / "a" / "sweep-5abb")
    here = find_sweep(".", tmp_path)
    assert here is not None
    assert here.id == "5abb"
    assert find_sweep("9", tmp_path) is find_sweep("", tmp_path) is None
    with pytest.raises(ConfigError, match="2 sweeps begin so: 5abb, 5aee"):
        find_sweep("5a", tmp_path)


def test_without_an_output_folder_there_is_a_hint(tmp_path):
    with pytest.raises(ConfigError, match="--output names another"):
        collect(tmp_path / "outputs")


def test_files_are_found_and_counted_however_deep(tmp_path):
    for name in ("checkpoints/best.ckpt", "stage-1/checkpoints/last.ckpt", "model.safetensors", "stage-1/x.ckpt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    assert [path.name for path in checkpoints(tmp_path)] == ["best.ckpt", "last.ckpt"]
    assert weights(tmp_path) == [tmp_path / "model.safetensors"]
    assert num_bytes([tmp_path]) == 20
    assert num_bytes(checkpoints(tmp_path)) == 10


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_who_starts_from_a_run_learns_from_it_or_counts_it_needs_it(tmp_path, quote):
    start = make_run(tmp_path / "a" / "2026-01-01T00-00-00-aaaaaa")
    teacher = make_run(tmp_path / "a" / "2026-01-01T00-00-00-bbbbbb")
    narrow = make_sweep(tmp_path / "a" / "sweep-1111", [("k1", ["lr=1"])])
    member = make_run(narrow / "1", ledger_key="k1")
    make_sweep(tmp_path / "a" / "sweep-2222", [("k1", ["lr=1"])])
    text = f"backbone:\n  weights: {quote}run:aaaa{quote}\n  teachers:\n  - run:{teacher}\n  gone: run:cccccc\n"
    make_run(tmp_path / "b" / "2026-01-01T00-00-00-dddddd", config=text)
    together = make_run(tmp_path / "ensemble" / "2026-01-01T00-00-00-eeeeee")
    (together / "config.yaml").unlink()
    (together / "ensemble.json").write_text(json.dumps({"how": "average", "members": [str(member), str(start)]}))
    found = {(need.folder, need.by, need.text) for need in needs(tmp_path)}
    user = tmp_path / "b" / "2026-01-01T00-00-00-dddddd"
    assert found == {
        (start, user, "dddddd starts from it, or learns from it (run:aaaa)"),
        (teacher, user, f"dddddd starts from it, or learns from it (run:{teacher})"),
        (member, together, "eeeeee is an ensemble that 1111#1 belongs to"),
        (start, together, "eeeeee is an ensemble that aaaaaa belongs to"),
        (member, tmp_path / "a" / "sweep-2222", "sweep 2222 counts it as its trial 1"),
    }


def test_a_folder_without_run_json_is_no_run(tmp_path):
    assert read_entry(tmp_path) is None
    assert read_entry(Path(os.devnull)) is None
