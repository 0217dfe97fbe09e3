"""What a finished run is used for, through the real command line: predict, and evaluate on other terms."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.metrics import f1_score

import tune
from folders import write_photos
from tune.cli.main import main
from tune.data.readers.synthetic import Synthetic

SMALL = ["backbone.input_size=32", "batch_size=16", "epochs=1", "lr=1e-2", "threshold=f1"]
KINDS = "data.tasks={half:{kind:classification},edges:{kind:multi_label},x:{kind:regression}}"

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module", autouse=True)
def photos(workplace):
    """80 photographs of two classes, and a list of them with three further columns."""
    table = Synthetic(2, 80, noise=0.7).read()
    lines = []
    for i, path in enumerate(write_photos(table, (48, 40))):
        x, y = table.columns["x"][i], table.columns["y"][i]
        edges = "|".join(word for word, has in (("left", x < 0.5), ("top", y < 0.5)) if has) or "|"
        lines.append([path, table.classes[table.labels[i]], table.columns["half"][i], edges, f"{x:.4f}"])
    with Path("list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "half", "edges", "x"], *lines])


FOLDER = [*SMALL, "data=folder", "data.root=photos"]


def read(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def assert_same_rows(said, written, prefix=""):
    """Probabilities to 1e-5 (the tables have six digits), and the same decisions."""
    assert len(said) == len(written) > 0
    for one, other in zip(said, written, strict=True):
        assert one[f"{prefix}predicted"] == other["predicted"]
        for name, value in other.items():
            if name.startswith("p_"):
                assert float(one[prefix + name]) == pytest.approx(float(value), abs=1e-5), name


@pytest.mark.parametrize("words", [["freeze=deep"], ["freeze=mid"], ["freeze=full", "backbone.weights=none"]])
def test_predict_says_of_the_test_part_what_the_run_said(trained, words, capsys):
    run_dir = trained(*FOLDER, *words)
    table = run_dir / "predictions" / "test.csv"
    words = ["predict", str(run_dir), str(table), "--root", "photos", "--out", "said.csv", "--batch-size", "5"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["rows"] == 16
    assert answer["skipped"] == []
    said = read("said.csv")
    assert list(said[0]) == ["path", "predicted", "p_disk", "p_square"]
    assert_same_rows(said, read(table))
    assert {row["predicted"] for row in said} <= {"disk", "square"}


def test_predict_tells_the_tasks_as_the_run_did(trained, capsys):
    run_dir = trained(*SMALL, "data=csv", "data.file=list.csv", KINDS, "head=multi_task", "freeze=mid")
    capsys.readouterr()
    assert main(["predict", str(run_dir), str(run_dir / "predictions" / "test.csv"), "--root", "."]) == 0
    said = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert_same_rows(said, read(run_dir / "predictions" / "test.csv"))
    for task in ("half", "edges"):
        assert_same_rows(said, read(run_dir / "predictions" / f"test_{task}.csv"), f"{task}/")
    numbers = [float(row["predicted"]) for row in read(run_dir / "predictions" / "test_x.csv")]
    assert [float(row["x/predicted"]) for row in said] == pytest.approx(numbers, rel=1e-4)


@pytest.mark.parametrize("how", ["average", "soup"])
def test_an_ensemble_says_little_and_predicts_what_it_was_measured_with(trained, tune_in, how):
    runs = [trained(*FOLDER, "freeze=deep"), trained(*FOLDER, "freeze=deep", "seed=1", "lr=3e-3")]
    said = tune_in(Path.cwd())("ensemble", *map(str, runs), "--combine", how)
    assert said.stderr == ""  # nothing of Lightning's
    assert len(said.stdout.splitlines()) == 2
    folder = max(Path("outputs/ensemble").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    table = folder / "predictions" / "test.csv"
    assert main(["predict", str(folder), str(table), "--root", "photos", "--out", "together.csv"]) == 0
    assert_same_rows(read("together.csv"), read(table))


def test_images_are_found_in_every_way_they_are_named(trained, capsys, monkeypatch):
    run_dir = str(trained(*FOLDER, "freeze=deep"))
    capsys.readouterr()

    def paths(*words):
        assert main(["predict", run_dir, *words]) == 0
        return [row["path"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]

    everything = sorted(str(path) for path in Path("photos").rglob("*.png"))
    assert paths("photos") == everything
    assert paths("photos/*/0*.png") == [path for path in everything if Path(path).name.startswith("0")]
    assert paths("photos/**/*.png") == everything
    assert paths(everything[3], everything[1], everything[3]) == [everything[3], everything[1], everything[3]]
    assert paths("list.csv") == [row["path"] for row in read("list.csv")]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{everything[5]}\n\n{everything[2]}\n"))
    assert paths("-") == [everything[5], everything[2]]


def test_the_likeliest_classes_come_first(trained, capsys):
    run_dir = str(trained(*FOLDER, "freeze=deep"))
    assert main(["predict", run_dir, "photos/disk", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert main(["predict", run_dir, "photos/disk", "--top", "1", "--json", "--workers", "1"]) == 0
    best = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert list(best[0]) == ["path", "predicted", "class_1", "p_1"]
    for row, top in zip(whole, best, strict=True):
        assert top["p_1"] == max(row["p_disk"], row["p_square"])
        assert top["p_1"] == row[f"p_{top['class_1']}"]
        assert top["predicted"] == row["predicted"]


def test_bad_images_are_listed_and_left_out(trained, capsys, tmp_path):
    run_dir = str(trained(*FOLDER, "freeze=deep"))
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "b.png").write_bytes(b"")
    good = Path("photos/disk/00.png" if Path("photos/disk/00.png").exists() else "photos/square/00.png")
    (tmp_path / "c.png").write_bytes(good.read_bytes())
    assert main(["predict", run_dir, str(tmp_path), str(tmp_path / "a.jpg"), "--json"]) == 3
    said = capsys.readouterr()
    answer = json.loads(said.out.splitlines()[-1])
    assert [Path(row["path"]).name for row in answer["predictions"]] == ["c.png"]
    assert [Path(each["path"]).name for each in answer["skipped"]] == ["a.jpg", "b.png", "a.jpg"]
    assert "b.png: is empty" in said.err
    assert "3 of 4 images" in said.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere"], "there is no file"),
        (["photos/*.gif"], "matches no file"),
        (["empty"], "holds no image"),
        (["wrong.csv"], "no column path. It has: file"),
        (["photos", "--out", "no/folder/p.csv"], "there is no folder"),
        (["photos", "--top", "3"], "there are 2 classes"),
    ],
)
def test_what_names_no_image_is_refused(trained, words, text, capsys):
    run_dir = str(trained(*FOLDER, "freeze=deep"))
    Path("wrong.csv").write_text("file\nx.png\n")
    Path("empty").mkdir(exist_ok=True)
    assert main(["predict", run_dir, *words]) == 2
    assert text in capsys.readouterr().err


def test_a_table_is_the_same_for_every_number_of_threads(trained):
    run_dir = str(trained(*FOLDER, "freeze=mid"))
    for workers, batch in ((1, 7), (3, 64)):
        words = ["--workers", str(workers), "--batch-size", str(batch), "--out", f"by{workers}.csv"]
        assert main(["predict", run_dir, "photos", *words]) == 0
    one, three = read("by1.csv"), read("by3.csv")
    assert [row["path"] for row in one] == [row["path"] for row in three]
    assert np.allclose([float(row["p_disk"]) for row in one], [float(row["p_disk"]) for row in three], atol=1e-5)


def answer(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def of_file(run_dir, part):
    """Labels (N,) as numbers, and p of the second class (N,)."""
    rows = read(run_dir / "predictions" / f"{part}.csv")
    return np.array([int(row["label"] == "square") for row in rows]), np.array([float(row["p_square"]) for row in rows])


def test_flipped_views_are_averaged(trained, capsys):
    run_dir = trained(*FOLDER, "freeze=deep", "precision=32-true", "augment.flip_vertical=0.5")
    found = answer(capsys, "evaluate", str(run_dir), "--tta")
    assert found["views"] == ["as it is", "upside down"]
    loaded, labels = tune.load(run_dir), of_file(run_dir, "test")[0]
    images = [Image.open(Path("photos") / row["path"]) for row in read(run_dir / "predictions" / "test.csv")]
    both = [loaded.predict([view(image) for image in images]) for view in (lambda each: each, ImageOps.flip)]
    probs = torch.stack(both).mean(dim=0)[:, 1].numpy()
    right = (probs > loaded.threshold) == labels
    assert abs(probs - of_file(run_dir, "test")[1]).max() > 1e-3  # the flip matters
    assert found["metrics"]["test/accuracy"] == pytest.approx(right.mean())
    assert json.loads((run_dir / "evaluations" / "test-tta.json").read_text())["metrics"] == found["metrics"]


def test_without_flips_in_training_images_are_flipped_left_to_right(trained, capsys):
    run_dir = trained(*FOLDER, "freeze=deep")
    assert answer(capsys, "evaluate", str(run_dir), "--tta")["views"] == ["as it is", "left to right"]


def test_a_temperature_is_fitted_to_validation_rows(trained, capsys):
    run_dir = trained(*FOLDER, "freeze=mid")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    found = answer(capsys, "evaluate", str(run_dir), "--calibrate")["calibration"]
    labels, p = of_file(run_dir, "val")

    def nll(t, labels, p):
        odds = (np.log(p) - np.log(1 - p)) / t
        return np.mean([np.log1p(np.exp(-odd if label else odd)) for label, odd in zip(labels, odds, strict=True)])

    best = min((nll(t, labels, p), t) for t in np.geomspace(0.05, 20, 4001))
    assert nll(found["temperature"], labels, p) == pytest.approx(best[0], abs=1e-5)
    assert found["fitted_on"] == len(labels)
    labels, p = of_file(run_dir, "test")
    assert found["nll_before"] == pytest.approx(nll(1, labels, p), abs=1e-4)
    assert found["nll_after"] == pytest.approx(nll(found["temperature"], labels, p), abs=1e-4)
    assert 0 <= found["ece_after"] <= 1
    new = {path for path in run_dir.rglob("*") if path.is_file()} - before.keys()
    assert new == {run_dir / "evaluations" / "test-calibrate.json"}
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("threshold", ["0.2", "f1", "auto"])
def test_metrics_are_decided_again_by_another_threshold(trained, capsys, threshold):
    run_dir = trained(*FOLDER, "freeze=deep", "threshold=0.5")
    found = answer(capsys, "evaluate", str(run_dir), "--threshold", threshold)
    labels, p = of_file(run_dir, "test")
    assert found["metrics"]["test/accuracy"] == pytest.approx(((p > found["threshold"]) == labels).mean())
    known, scores = of_file(run_dir, "val")
    if threshold == "0.2":
        assert found["threshold"] == 0.2
    elif threshold == "f1":
        best = max(f1_score(known, scores > step / 1000) for step in range(1, 1000))
        assert f1_score(known, scores > found["threshold"]) >= best
    else:  # the run's objective is val/accuracy
        best = max(((scores > step / 1000) == known).mean() for step in range(1, 1000))
        assert ((scores > found["threshold"]) == known).mean() >= best


def test_other_data_are_measured_row_by_row(trained, capsys, tmp_path):
    run_dir = trained(*FOLDER, "freeze=mid")
    for name in ("disk", "square"):
        (tmp_path / name).mkdir()
    for path in sorted(Path("photos").rglob("*.png"))[::7]:
        (tmp_path / path.parent.name / path.name).write_bytes(path.read_bytes())
    found = answer(capsys, "evaluate", str(run_dir), f"data.root={tmp_path}")
    assert main(["predict", str(run_dir), str(tmp_path), "--out", "other.csv"]) == 0
    right = [Path(row["path"]).parent.name == row["predicted"] for row in read("other.csv")]
    assert found["metrics"]["test/accuracy"] == pytest.approx(np.mean(right))
    assert found["counts"] == {"test": len(right)}
    # One class alone, by way of a list: a subset of the run's classes.
    rows = [(path, "square") for path in sorted((tmp_path / "square").iterdir())]
    (tmp_path / "one.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    found = answer(capsys, "evaluate", str(run_dir), "data=csv", f"data.file={tmp_path / 'one.csv'}")
    assert found["confusion"][0] == [0, 0]
    assert sum(found["confusion"][1]) == len(rows)
    (tmp_path / "triangle").mkdir()
    (tmp_path / "triangle" / "t.png").write_bytes(rows[0][0].read_bytes())
    assert main(["evaluate", str(run_dir), f"data.root={tmp_path}"]) == 2
    assert "does not know: triangle. It knows: disk, square" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["lr=1"], "of what is measured only data"),
        (["data.root=photos", "data.split.test=0.5"], "all rows are measured"),
        (["data.rot=photos"], "Did you mean data.root"),
        (["data.root=no/such"], "there is no folder"),
        (["--threshold", "2"], "neither between 0 and 1"),
        (["--threshold", "0.4", "--attack", "pgd"], "leave out"),
        (["--tta", "--pictures"], "--pictures  (command line)  are of the test part as the run decided: leave out"),
    ],
)
def test_what_cannot_be_measured_is_refused(trained, words, text, capsys):
    run_dir = str(trained(*FOLDER, "freeze=deep"))
    assert main(["evaluate", run_dir, *words]) == 2
    assert text in capsys.readouterr().err


def test_a_run_measures_at_its_end_what_evaluate_lists(trained, capsys):
    words = ["freeze=mid", "evaluate.tta=true", "evaluate.calibrate=true"]
    run_dir = trained(*FOLDER, *words)
    record = json.loads((run_dir / "run.json").read_text())
    found = answer(capsys, "evaluate", str(run_dir), "--tta")
    assert record["metrics"]["test/tta_accuracy"] == found["metrics"]["test/accuracy"]
    assert record["metrics"]["test/tta_auroc"] == pytest.approx(found["metrics"]["test/auroc"])
    assert record["views"] == found["views"]
    later = answer(capsys, "evaluate", str(run_dir), "--calibrate")["calibration"]
    assert record["calibration"].pop("doubt") == later.pop("doubt") != ""  # 13 validation rows
    assert record["calibration"] == pytest.approx(later, rel=1e-4)
    plain = json.loads((trained(*FOLDER, "freeze=mid") / "run.json").read_text())
    assert {name: record["metrics"][name] for name in plain["metrics"]} == plain["metrics"]
    assert main(["run", *FOLDER, *words, "data.split.test=0"]) == 2
    err = capsys.readouterr().err
    assert "evaluate.tta" in err
    assert "evaluate.calibrate" in err
