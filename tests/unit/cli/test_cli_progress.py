from __future__ import annotations

import os

import pytest

from folders import make_run
from tune.cli.results.progress import progress
from tune.cli.results.text import aligned, span
from tune.report.runs.collect import read_entry
from tune.run_dir import process_identity


def at(run_dir, now):
    entry = read_entry(run_dir)
    assert entry is not None
    return progress(entry, now)


def write_history(run_dir, values, at, name="val/accuracy"):
    rows = "".join(f"{epoch},{epoch * 5},{value}\n" for epoch, value in enumerate(values, start=1))
    (run_dir / "metrics.csv").write_text(f"epoch,step,{name}\n{rows}")
    os.utime(run_dir / "metrics.csv", (at, at))


@pytest.fixture
def run_dir(tmp_path):
    return make_run(tmp_path / "a" / "x-1", at=1000, status="running", **process_identity())


def test_before_the_first_epoch_nothing_is_promised(run_dir):
    found = at(run_dir, 1030)
    assert (found.epoch, found.epochs, found.best, found.seconds, found.seconds_left) == (0, 10, None, 30, None)


def test_the_time_left_is_that_of_the_epochs_to_come_at_the_pace_of_those_behind(run_dir):
    write_history(run_dir, [0.5, 0.8, 0.7], at=1060)  # 20 s each; seven to come are 140 s, of which 15 have passed
    found = at(run_dir, 1075)
    assert (found.epoch, found.value, found.best, found.best_epoch) == (3, 0.7, 0.8, 2)
    assert (found.seconds, found.seconds_left) == (75, 125)
    assert at(run_dir, 9999).seconds_left == 0


def test_epochs_before_a_resume_took_no_time_of_this_process(run_dir, tmp_path):
    resumed = make_run(tmp_path / "a" / "x-2", at=1000, status="running", epochs_before=2, **process_identity())
    write_history(resumed, [0.5, 0.8], at=900)
    assert at(resumed, 1010).seconds_left is None
    write_history(resumed, [0.5, 0.8, 0.7], at=1060)
    assert at(resumed, 1060).seconds_left == 7 * 60


def test_a_loss_is_best_when_least_and_nan_is_no_value(tmp_path):
    mine = {"status": "running", "objective": "val/loss", **process_identity()}
    run_dir = make_run(tmp_path / "a" / "x-1", at=1000, **mine)
    write_history(run_dir, [0.5, 0.3, "nan"], at=1060, name="val/loss")
    found = at(run_dir, 1060)
    assert (found.value, found.best, found.best_epoch) == (None, 0.3, 2)


def test_a_chain_is_as_far_as_the_stage_that_runs(tmp_path):
    mine = {"status": "running", **process_identity()}
    chain = make_run(tmp_path / "a" / "chain-1", at=1000, **mine)
    make_run(chain / "stage-1", at=1001)
    make_run(chain / "stage-2", at=1100, **mine)
    write_history(chain / "stage-2", [0.5], at=1110)
    found = at(chain, 1110)
    assert (found.part, found.epoch, found.seconds_left, found.seconds) == ("stage-2", 1, 90, 110)


def test_what_has_ended_took_what_it_says(tmp_path):
    found = at(make_run(tmp_path / "a" / "x-1", at=1000, seconds=12.0), 9999)
    assert (found.seconds, found.seconds_left) == (12.0, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (3600, "60 min"), (7260, "2 h 01 min")],
)
def test_spans_of_time_are_short(seconds, text):
    assert span(seconds) == text


def test_cells_stand_below_each_other():
    assert aligned([["a", "bb", ""], ["ccc", "d", "e"]], indent=" ") == [" a    bb", " ccc  d   e"]
    assert aligned([]) == []
