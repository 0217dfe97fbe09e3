"""The page of a sweep, from folders written by hand."""

from __future__ import annotations

import json
import os

import pytest

from folders import make_run, make_sweep
from tune.cli.results.status import status
from tune.report.write import write_report

AUTO = {"lr": {"lr": 0.0123, "reason": "a short test"}, "freeze": {"option": "mid"}}


def markdown(folder, path):
    return write_report([folder], path / "page.html")[1].read_text()


def table(text, title):
    """Cells of the first table below a title."""
    lines = iter(text.partition(f"## {title}\n")[2].splitlines())
    rows = []
    for line in lines:
        if line.startswith("| "):
            rows.append([cell.strip() for cell in line.split("|")[1:-1]])
        elif rows:
            break
    return rows


def facts(text):
    return dict(line[2:].split(": ", 1) for line in text.splitlines() if line.startswith("- ") and ": " in line)


def test_the_page_settles_trials_as_status_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    narrow = make_sweep(outputs / "a" / "sweep-1111", [("k1", ["lr=1"])])
    make_run(narrow / "1", ledger_key="k1", metrics={"val/accuracy": 0.25})
    wide = make_sweep(outputs / "a" / "sweep-2222", [("k1", ["lr=1"]), ("k2", ["lr=2"]), ("k3", ["lr=3"])])
    make_run(wide / "2", ledger_key="of another config", metrics={"val/accuracy": 0.75})
    gone = {"pid": 2**22 + 1, "pid_started": "1", "host": os.uname().nodename}
    make_run(wide / "3", ledger_key="k3", status="running", **gone)
    text = markdown(wide, tmp_path)
    assert status(["2222", "--json"]) == 0
    (about,) = json.loads(capsys.readouterr().out.splitlines()[-1])["sweeps"]
    assert about["counts"] == {"done": 1, "missing": 1, "dead": 1}
    assert (about["best"]["value"], about["best"]["trial"]) == (0.25, 1)
    assert "**best val/accuracy 0.250**" in text
    assert facts(text)["look at it"] == "tune report 1111#1"
    assert table(text, "What is not done")[2:] == [
        ["2", "missing", "not begun", "lr=2"],
        ["3", "dead", "its process is gone", "lr=3"],
    ]


def test_secrets_of_a_sweep_do_not_stand_on_its_page(tmp_path):
    grid = [(f"k{number}", [f"lr={number}", f"logger.api_key=hush{number}"]) for number in (1, 2)]
    sweep = make_sweep(tmp_path / "a" / "sweep-1111", grid, command=["lr=1,2", "logger.api_key=hush1,hush2"])
    make_run(sweep / "1", ledger_key="k1", metrics={"val/accuracy": 0.5})
    write_report([sweep], tmp_path / "page.html")
    for name in ("page.html", "page.md"):
        text = (tmp_path / name).read_text()
        assert "lr=1,2" in text
        assert "hush" not in text


@pytest.mark.parametrize("more", [["freeze=auto"], []])
def test_the_leaderboard_says_what_auto_chose_and_auto_has_its_place_in_the_drawings(tmp_path, more):
    grid = [("k1", ["lr=auto", *more]), ("k2", ["lr=0.001", *more]), ("k3", ["lr=0.1", *more])]
    sweep = make_sweep(tmp_path / "a" / "sweep-1111", grid)
    freeze = {key: AUTO[key] for key in ("lr", "freeze") if key == "lr" or more}
    for number, auto in enumerate([freeze, {"freeze": AUTO["freeze"]} if more else {}, {}], start=1):
        make_run(sweep / str(number), ledger_key=f"k{number}", auto=auto, metrics={"val/accuracy": 1 - number / 10})
    text = markdown(sweep, tmp_path)
    head, _, *rows = table(text, "Leaderboard")
    assert [row[head.index("lr")] for row in rows] == ["auto → 0.0123", "0.001", "0.1"]
    if more:  # of a key that was not swept
        assert [row[head.index("freeze")] for row in rows] == ["auto → mid", "auto → mid", "auto"]
    else:
        assert "freeze" not in head
    assert "*val/accuracy by lr*: 0.001: 0.800; 0.1: 0.700; auto: 0.900" in text


def made_of(values, folder, maximize=True):
    """A sweep whose trials have these values, two seeds to a rate."""
    grid = [(f"k{n}", [f"lr={n // 2}", f"seed={n % 2}"]) for n in range(len(values))]
    objective = "val/accuracy" if maximize else "val/loss"
    sweep = make_sweep(folder / "sweep-1111", grid, maximize=maximize, objective=objective)
    for number, value in enumerate(values):
        make_run(sweep / str(number + 1), ledger_key=f"k{number}", metrics={objective: value})
    return sweep


@pytest.mark.parametrize(
    ("values", "maximize", "said", "best"),
    [
        ([0.5, 0.6, 0.7, 0.8], True, "0.800 of trial 4", (0.8, 4, [])),
        ([0.8, 0.6, 0.7, 0.8], True, "0.800 of trials 1 and 4 (a tie)", (0.8, 1, [4])),
        ([0.5, 0.2, 0.2, 0.2], False, "0.200 of trials 2, 3 and 4 (a tie)", (0.2, 2, [3, 4])),
        ([1.0] * 12, True, "1.000 of trials 1, 2, 3, 4, 5 and 7 more (a tie)", (1.0, 1, [*range(2, 13)])),
    ],
)
def test_status_names_all_trials_that_share_the_best_value(tmp_path, capsys, values, maximize, said, best):
    sweep = made_of(values, tmp_path / "a", maximize)
    assert status([str(sweep)]) == 0
    assert f"best val/{'accuracy' if maximize else 'loss'} {said}" in capsys.readouterr().out
    assert status([str(sweep), "--json"]) == 0
    (about,) = json.loads(capsys.readouterr().out.splitlines()[-1])["sweeps"]
    assert about["best"] == dict(zip(("value", "trial", "ties"), best, strict=True))


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([0.5, 1.0, 0.75, 0.75, 0.7, 0.7], "trials 1, 2, 3 and 4 (a tie); the first: lr=0"),
        ([0.5, 1.0, 0.75, 0.5, 0.7, 0.7], "lr=0"),
    ],
)
def test_the_page_says_that_lines_share_the_best_mean(tmp_path, values, best):
    told = facts(markdown(made_of(values, tmp_path / "a"), tmp_path))
    assert (told["best"], told["look at it"]) == (best, "tune report 1111#1")
