"""Looking at runs, comparing and removing them, through the real command line, on runs made by real training."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tune.cli.main import main
from tune.run_dir import read_json
from tune.train.sweep.ledger import locked

pytestmark = [pytest.mark.filterwarnings("default")]

DATA = ["data=synthetic", "data.rows=90", "data.classes=2", "backbone.input_size=32", "epochs=2", "batch_size=16"]
FAILS = ["regularize.l2=1", "precision=32-true"]  # with lr=1e30 the loss is infinite at once


@pytest.fixture(scope="module")
def made(workplace):
    """Three runs, and a sweep of which two trials diverge; and what the sweep printed."""
    assert main(["run", *DATA, "threshold=f1", "name=mine"]) == 0
    assert main(["run", *DATA, "lr=1e-2", "freeze=full", "name=mine"]) == 0
    assert main(["run", *DATA, "data.split.seed=1", "name=other"]) == 0
    words = ["run", "-m", *DATA, *FAILS, "lr=1e-3,1e-2,1e30", "seed=0,1", "sweep.keep=best", "name=swept"]
    command = [sys.executable, "-m", "tune", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ)
    assert done.returncode == 3, done.stderr
    return workplace, done.stdout


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy to look at and to break: its outputs."""
    shutil.copytree(made[0] / "outputs", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


def told(capsys, *words, code=0):
    """What a command prints on stdout and says on stderr."""
    assert main(list(words)) == code
    said = capsys.readouterr()
    return said.out, said.err


def asked(capsys, *words, code=0):
    """What it answers as JSON."""
    return json.loads(told(capsys, *words, "--json", code=code)[0].splitlines()[-1])


def runs_of(folder):
    return sorted(path.parent for path in folder.glob("*/run.json"))


def ids(here):
    """Short names of the run with a threshold, the one that trained everything, and the one of another split."""
    found = {(path / "overrides.txt").read_text().split()[-2]: path.name[-6:] for path in runs_of(here / "mine")}
    return found["threshold=f1"], found["freeze=full"], runs_of(here / "other")[0].name[-6:]


def test_ls_runs_shows_runs_and_sweeps_newest_last_and_filters_by_words(here, capsys):
    out, err = told(capsys, "ls", "runs")
    lines = out.splitlines()
    assert [line.split()[1] for line in lines] == ["mine", "mine", "other", "swept"]
    assert "sweep: 4 done, 2 diverged" in lines[-1]
    assert "threshold=f1" in lines[0]
    assert "4 runs and sweeps in outputs, newest last" in err
    assert [line.split()[1] for line in told(capsys, "ls", "runs", "SEED=1")[0].splitlines()] == ["other"]
    none = told(capsys, "ls", "runs", "mine", "diverged")
    assert none[0] == ""
    assert "0 of 4 runs and sweeps in outputs with mine and diverged in their line" in none[1]
    rows = asked(capsys, "ls", "runs")["runs"]
    for row, line in zip(rows, lines, strict=True):
        record = Path(row["run_dir"]) / "run.json"
        assert line.startswith(row["run"])
        assert isinstance(row["seconds"], float)
        assert isinstance(row["when"], float)
        assert row["objective"] == "val/accuracy"
        if record.is_file():
            assert (row["value"], row["status"]) == (read_json(record)["metrics"]["val/accuracy"], "done")
    best = max(read_json(path / "run.json")["metrics"].get("val/accuracy", 0) for path in here.glob("swept/*/[1-4]"))
    assert rows[-1]["value"] == best
    assert told(capsys, "ls", "runs", "--output", "nowhere", code=2)[1].count("--output names another") == 1


def test_ls_cache_is_cache_ls(made, here, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(made[0] / "cache"))
    out, _ = told(capsys, "ls", "cache")
    assert "tf_efficientnet_lite0 up to blocks.6.0" in out
    assert told(capsys, "cache", "ls")[0] == out


def test_top_prints_the_table_of_the_sweep_and_sorts_by_any_metric(made, here, capsys):
    folder = next(here.glob("swept/sweep-*"))
    table = [line for line in made[1].splitlines() if line.startswith("  ")]
    out, err = told(capsys, "top", folder.name.removeprefix("sweep-")[:4])
    assert out.splitlines() == table
    assert "4 done, 2 diverged" in err
    shown, err = told(capsys, "top", str(folder), "--by", "val/loss", "--lines", "1")
    assert len(shown.splitlines()) == 2
    assert "2 more lines" in err
    lines = asked(capsys, "top", "latest", "--by", "test/loss")["lines"]
    means = [line["mean"] for line in lines]
    assert means[-1] is None
    assert means[:2] == sorted(means[:2])
    for line in lines[:2]:
        values = [read_json(Path(run["run_dir"]) / "run.json")["metrics"]["test/loss"] for run in line["runs"]]
        assert line["mean"] == pytest.approx(sum(values) / 2)
        assert line["n"] == 2
    assert {run["status"] for run in lines[2]["runs"]} == {"diverged"}


def test_top_of_an_experiment_ranks_all_its_runs_and_an_unknown_word_is_refused(here, capsys):
    lines = asked(capsys, "top", "mine")["lines"]
    found = {run["run"]: line["mean"] for line in lines for run in line["runs"]}
    expected = {
        path.name[-6:]: read_json(path / "run.json")["metrics"]["val/accuracy"] for path in runs_of(here / "mine")
    }
    assert found == expected
    assert [line["mean"] for line in lines] == sorted(expected.values(), reverse=True)
    assert "Experiments: mine" in told(capsys, "top", "mein", code=2)[1]
    assert "--by  (command line)  loss was not measured" in told(capsys, "top", "mine", "--by", "loss", code=2)[1]


def test_status_of_a_sweep_counts_and_names_what_failed_with_its_cause(here, capsys):
    folder = next(here.glob("swept/sweep-*"))
    out, err = told(capsys, "status", str(folder))
    assert "stopped: 4 done, 2 diverged of 6" in out
    assert told(capsys, "status", "latest")[0] == out
    assert "trial 5/6 diverged: " in out
    assert "(lr=1e+30 seed=0)" in out or "(lr=1e30 seed=0)" in out
    assert "the same command runs what is missing" in err
    (about,) = asked(capsys, "status", str(folder))["sweeps"]
    assert about["counts"] == {"done": 4, "diverged": 2}
    assert [(trial["trial"], trial["status"]) for trial in about["failed"]] == [(5, "diverged"), (6, "diverged")]
    assert all(trial["cause"] for trial in about["failed"])
    assert told(capsys, "status")[0].startswith("nothing runs in outputs")
    shutil.rmtree(folder / "2")
    with locked(folder):
        (about,) = asked(capsys, "status")["sweeps"]
    assert (about["status"], about["counts"]["missing"]) == ("running", 1)
    assert "no such run" in told(capsys, "status", "nope", code=2)[1]


def test_a_run_that_trains_tells_how_far_it_is_and_one_that_was_killed_is_dead(tune, tiny, capsys, monkeypatch):
    monkeypatch.chdir(tune.folder)
    process = tune.start("run", *tiny, "epochs=3000")
    try:
        run = _wait_for(lambda: next(iter(asked(capsys, "status")["runs"]), {"epoch": 0}), lambda run: run["epoch"] > 1)
        assert (run["status"], run["epochs"], run["objective"]) == ("running", 3000, "val/accuracy")
        assert run["seconds_left"] > 0
        assert 0 <= run["value"] <= run["best"] <= 1
        assert f"{run['run']} runs as process {process.pid} on" in told(capsys, "rm", run["run"], "--yes", code=2)[1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert asked(capsys, "status")["runs"][0]["status"] == "dead"
    out, err = told(capsys, "ls", "runs")
    assert out.split()[2] == "dead"
    assert "tune resume RUN goes on" in err
    told(capsys, "rm", run["run"], "--yes")
    assert not Path(run["run_dir"]).exists()


def _wait_for(look, is_there, seconds=60):
    until = time.monotonic() + seconds
    while not is_there(found := look()):
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found


def test_a_sweep_that_keeps_the_best_leaves_one_network_and_it_is_whole(here, capsys):
    folder = next(here.glob("swept/sweep-*"))
    lines = asked(capsys, "top", str(folder))["lines"]
    done = {run["run_dir"]: run["metrics"]["val/accuracy"] for line in lines for run in line["runs"] if run["metrics"]}
    best = max(done, key=lambda path: (done[path], -int(Path(path).name)))
    kept = [path for path in folder.glob("*/model.safetensors") if path.parent.name in "1234"]
    assert [str(path.parent) for path in kept] == [best]
    assert "partial: false" in (kept[0].parent / "model.yaml").read_text()
    assert not [path for run_dir in done for path in Path(run_dir).rglob("*.ckpt")]
    assert len(list(folder.glob("[1-4]/predictions/test.csv"))) == 4
    assert "sweep.keep=best  (command line)  is for sweeps" in told(capsys, "run", *DATA, "sweep.keep=best", code=2)[1]


def test_compare_agrees_with_the_files_of_both_runs(here, capsys):
    first, second, _ = ids(here)
    answer = asked(capsys, "compare", first, second, "--flips", "2")
    (pair,) = answer["pairs"]
    rows = []
    for name in (first, second):
        with (next(here.glob(f"mine/*{name}")) / "predictions" / "test.csv").open(newline="") as file:
            rows.append({row["path"]: row for row in csv.DictReader(file)})
    right = [{path: row["label"] == row["predicted"] for path, row in part.items()} for part in rows]
    assert pair["rows"] == len(rows[0]) == 18
    gained = [path for path in rows[0] if right[1][path] and not right[0][path]]
    lost = [path for path in rows[0] if right[0][path] and not right[1][path]]
    assert (pair["mcnemar"]["only_second"], pair["mcnemar"]["only_first"]) == (len(gained), len(lost))
    assert pair["mcnemar"]["p"] == pair["mcnemar"]["p_holm"]
    assert (pair["flips"]["gained"]["rows"], pair["flips"]["lost"]["rows"]) == (len(gained), len(lost))
    assert {flip["path"] for flip in pair["flips"]["gained"]["named"]} <= set(gained)
    change = pair["differences"]["test/accuracy"]
    assert change["difference"] == pytest.approx((len(gained) - len(lost)) / 18)
    metrics = [run["metrics"]["test/accuracy"] for run in answer["runs"]]
    assert change["difference"] == pytest.approx(metrics[1] - metrics[0])  # the first decides by its threshold
    assert change["low"] <= change["difference"] <= change["high"]
    assert pair["choices"] == {"freeze": ["deep", "full"]}
    assert pair["differ"]["lr"] == [0.001, 0.01]
    assert pair["differ"]["threshold"] == ["f1", None]
    assert not {"output", "cache.dir", "sweep.keep"} & pair["differ"].keys()

    out, _ = told(capsys, "compare", first, second)
    assert f"test/accuracy {metrics[0]:.3f} [" in " ".join(out.split())
    assert "McNemar    p = " in out
    assert "exact binomial" in out
    assert "freeze deep → full" in out
    assert f"{len(gained)} right in {second} alone" in out


def test_compare_of_several_corrects_by_holm_and_equal_runs_do_not_differ(here, capsys):
    first, second, _ = ids(here)
    copy = here / "mine" / "2030-01-01T00-00-00-c0ffee"
    shutil.copytree(next(here.glob(f"mine/*{first}")), copy)
    pairs = asked(capsys, "compare", first, "c0ffee", second)["pairs"]
    assert pairs[0]["differ"] == {}
    assert set(pairs[0]["differences"]["test/accuracy"].values()) == {0.0}
    assert pairs[0]["mcnemar"]["p"] == pairs[0]["mcnemar"]["p_holm"] == 1.0
    assert pairs[1]["mcnemar"]["p_holm"] == pytest.approx(min(1.0, 2 * pairs[1]["mcnemar"]["p"]))
    assert "by Holm, of 2 tests" in told(capsys, "compare", first, "c0ffee", second)[0]


def test_compare_refuses_another_split_an_unfinished_run_and_a_single_one(here, capsys):
    first, second, other = ids(here)
    answer = asked(capsys, "compare", first, second, other, code=2)
    assert [problem["key"] for problem in answer["problems"]] == [other]
    assert "has another split (" in answer["problems"][0]["text"]
    assert "rows stand in one of" in answer["problems"][0]["text"]
    sweep = next(here.glob("swept/sweep-*")).name.removeprefix("sweep-")
    assert f"{sweep}#5  is diverged" in told(capsys, "compare", first, f"{sweep}#5", code=2)[1]
    assert "needs two runs or more" in told(capsys, "compare", first, first, code=2)[1]
    fewer = here / "mine" / "2030-01-01T00-00-00-fe3e55"
    shutil.copytree(next(here.glob(f"mine/*{second}")), fewer)
    run = read_json(fewer / "run.json")
    run["data"]["split"], run["counts"]["train"] = "another", 7
    (fewer / "run.json").write_text(json.dumps(run))
    assert "--other-split compares them all the same" in told(capsys, "compare", first, "fe3e55", code=2)[1]
    assert "and 7 train" in told(capsys, "compare", first, "fe3e55", "--other-split")[0]
    assert "rows stand in one of" in told(capsys, "compare", first, other, "--other-split", code=2)[1]


def test_rm_asks_on_a_terminal_and_does_what_is_answered(here):
    run_dir = runs_of(here / "other")[0]
    for answer, is_there in ((b"n\n", True), (b"y\n", False)):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "tune", "rm", run_dir.name[-6:]]
        process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.write(ours, answer)
        out, err = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert process.returncode == 0
        assert f"remove {run_dir}: " in err
        assert run_dir.exists() == is_there
        assert out.startswith("nothing was removed" if is_there else f"removed {run_dir}: ")
    assert not (here / "other").exists()  # the last run of its experiment


def test_rm_refuses_without_a_terminal_and_what_is_needed(here, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    first, second, other = ids(here)
    (run_dir,) = here.glob(f"other/*{other}")
    assert f"would remove {run_dir}: 1" in (err := told(capsys, "rm", other, code=2)[1])
    assert "--yes removes it unasked" in err
    assert run_dir.is_dir()
    user = next(here.glob(f"mine/*{second}"))
    (user / "config.yaml").write_text(f"backbone:\n  weights: run:{first}\n")
    err = told(capsys, "rm", first, other, "--yes", code=2)[1]
    assert f"{first}  is needed: {second} starts from it" in err
    assert next(here.glob(f"mine/*{first}")).is_dir()
    assert next(here.glob(f"other/*{other}")).is_dir()
    size = sum(path.stat().st_size for path in (here / "mine").rglob("*") if path.is_file())
    answer = asked(capsys, "rm", first, second, "--yes")  # together they may go
    assert answer["bytes"] == size
    assert not (here / "mine").exists()
    assert "no such run" in told(capsys, "rm", first, "--yes", code=2)[1]


def test_rm_of_a_sweep_that_runs_is_refused_and_of_one_that_is_done_takes_all_of_it(here, capsys):
    folder = next(here.glob("swept/sweep-*"))
    name = folder.name.removeprefix("sweep-")
    with locked(folder):
        assert "its sweep is running" in told(capsys, "rm", name, "--yes", code=2)[1]
        assert "its sweep is running" in told(capsys, "rm", f"{name}#1", "--yes", code=2)[1]
    told(capsys, "rm", f"{name}#1", "--yes")
    assert not (folder / "1").exists()
    assert asked(capsys, "status", name)["sweeps"][0]["counts"]["missing"] == 1
    told(capsys, "rm", name, "--yes")
    assert not folder.exists()


def test_rm_checkpoints_trims_what_is_done_and_leaves_the_results(here, capsys):
    first, second, _ = ids(here)
    run_dir = next(here.glob(f"mine/*{first}"))
    before = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()}
    answer = asked(capsys, "rm", first, "--checkpoints", "--yes")
    gone = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    assert before - {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()} == gone
    assert len(answer["removed"]) == 2
    assert answer["bytes"] > 0
    other = next(here.glob(f"mine/*{second}")) / "run.json"
    other.write_text(other.read_text().replace('"done"', '"interrupted"', 1))
    assert "tune resume needs its checkpoints" in told(capsys, "rm", second, "--checkpoints", "--yes", code=2)[1]
    told(capsys, "rm", second, "--checkpoints", "--yes", "--force")
    assert list(other.parent.glob("checkpoints/*")) == []


def test_an_ensemble_is_compared_by_its_rows_and_has_no_keys(here, capsys):
    first, second, _ = ids(here)
    folder = here / "mine" / "2030-01-01T00-00-00-c0ffee"
    shutil.copytree(next(here.glob(f"mine/*{second}")), folder)
    (folder / "config.yaml").unlink()
    record = read_json(folder / "run.json")
    del record["choices"], record["objective"], record["overrides"], record["versions"], record["seconds"]
    together = {"how": "average", "members": [first, second]}
    (folder / "run.json").write_text(json.dumps({**record, "ensemble": together}))
    (pair,) = asked(capsys, "compare", first, "c0ffee")["pairs"]
    assert pair["differ"] == pair["choices"] == pair["beside"] == {}
    assert pair["rows"] == 18
    assert "ensemble   c0ffee: average of 2" in told(capsys, "compare", first, "c0ffee")[0]
    assert "average of 2" in told(capsys, "ls", "runs", "c0ffee")[0]
