"""Heads that are fitted at once, in whole runs: alone, in a sweep, and loaded."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tune
from tune.cli.main import main
from tune.data.readers.synthetic import Synthetic
from tune.data.samplers import resampled

SMALL = ["data=synthetic", "data.rows=90", "data.noise=0.6", "backbone.input_size=32"]
FOREST = ["head=sklearn", "head.options={n_estimators: 20}"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]


def finished(capsys, *words):
    assert main(["run", *SMALL, *words, "--json"]) == 0, capsys.readouterr().err
    run_dir = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["run_dir"])
    return run_dir, json.loads((run_dir / "run.json").read_text())


def predictions(run_dir, part):
    rows = list(csv.DictReader((run_dir / "predictions" / f"{part}.csv").read_text().splitlines()))
    names = [name for name in rows[0] if name.startswith("p_")]
    labels = np.array([names.index(f"p_{row['label']}") for row in rows])
    return [int(row["row"]) for row in rows], labels, np.array([[float(row[name]) for name in names] for row in rows])


@pytest.mark.parametrize("bootstrap", [None, 2])
def test_a_run_is_what_scikit_learn_gives_on_the_features(capsys, bootstrap):
    words = ["head=sklearn", "head.name=logistic_regression", "head.options.C=0.01", "precision=32-true"]
    words += [] if bootstrap is None else [f"data.bootstrap={bootstrap}"]
    run_dir, record = finished(capsys, *words)
    run, table = tune.load(run_dir), Synthetic(3, 90, noise=0.6).read()
    with torch.inference_mode():
        images = torch.stack([run.transform(image) for image in table.images])
        features = run.network.features(images).double().numpy()
    held_out = set(predictions(run_dir, "val")[0]) | set(predictions(run_dir, "test")[0])
    train = np.array([row for row in range(90) if row not in held_out])
    train = train if bootstrap is None else resampled(train, 0, bootstrap)
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    oracle.fit(features[train], table.labels[train])
    for part in ("val", "test"):
        rows, labels, probs = predictions(run_dir, part)
        expected = oracle.predict_proba(features[rows])
        assert probs == pytest.approx(expected, abs=5e-3)
        assert (labels == table.labels[rows]).all()
        assert record["metrics"][f"{part}/accuracy"] == pytest.approx(accuracy_score(labels, probs.argmax(axis=1)))
        assert record["metrics"][f"{part}/loss"] == pytest.approx(log_loss(labels, expected), abs=5e-3)
        low, high = record["intervals"].get(f"{part}/accuracy", (0, 1))
        assert low < record["metrics"][f"{part}/accuracy"] < high
    rows, _, probs = predictions(run_dir, "test")
    assert run.predict([table.images[row] for row in rows]).numpy() == pytest.approx(probs, abs=5e-3)
    assert record["best_epoch"] == 1
    assert record["counts"] == {"train": len(train), "val": 15, "test": 18}
    history = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
    assert [float(row["val/loss"]) for row in history] == pytest.approx([record["metrics"]["val/loss"]])
    assert float(history[0]["train/loss"]) < float(history[0]["val/loss"])


def test_the_same_config_gives_the_same_files_with_a_cache_and_without(capsys):
    kept, asked = finished(capsys, *FOREST)[0], finished(capsys, *FOREST, "cache=never")[0]
    again = finished(capsys, *FOREST)[0]
    for name in ("metrics.csv", "predictions/test.csv", "model.safetensors", "model.yaml"):
        assert (kept / name).read_bytes() == (again / name).read_bytes()
        assert (kept / name).read_bytes() == (asked / name).read_bytes()
    other = finished(capsys, *FOREST, "seed=1")[0]
    assert (kept / "predictions/test.csv").read_bytes() != (other / "predictions/test.csv").read_bytes()


def test_classes_that_count_more_are_those_of_a_balanced_classifier(capsys):
    rare = ["data.split.fraction=0.4", "data.classes=2", "head=sklearn", "head.name=logistic_regression"]
    weighted = finished(capsys, *rare, "loss=weighted")[0]
    balanced = finished(capsys, *rare, "head.options={class_weight: balanced}")[0]
    plain = finished(capsys, *rare, "loss=weighted", "loss.classes=[5, 1]")[0]
    assert predictions(weighted, "test")[2] == pytest.approx(predictions(balanced, "test")[2], abs=1e-4)
    assert abs(predictions(weighted, "test")[2] - predictions(plain, "test")[2]).max() > 1e-3


@pytest.mark.slow
def test_in_a_sweep_it_trains_alone_and_the_others_as_one(capsys):
    words = ["+experiment=smoke/deep", *SMALL, "head=linear,sklearn", "seed=0,1"]
    assert main(["run", "-m", *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["fused_groups"] == 1
    assert [trial["status"] for trial in answer["trials"]] == ["done"] * 4
    records = [json.loads((Path(trial["run_dir"]) / "run.json").read_text()) for trial in answer["trials"]]
    assert ["fused" in record for record in records] == [True, True, False, False]
    for trial in answer["trials"][2:]:
        run = tune.load(trial["run_dir"])
        _, _, probs = predictions(Path(trial["run_dir"]), "test")
        found = run.predict(list(Synthetic(3, 90, noise=0.6).read().images))
        rows = predictions(Path(trial["run_dir"]), "test")[0]
        assert found[rows].numpy() == pytest.approx(probs, abs=0.1)  # features in bf16 there


def test_several_classifiers_and_a_threshold_of_each(capsys):
    words = ["data.classes=2", "head=sklearn", "head.name=knn,svm,gradient_boosting", "threshold=f1"]
    assert main(["run", "-m", *SMALL, *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["fused_groups"] == 0
    for trial in answer["trials"]:
        run_dir = Path(trial["run_dir"])
        threshold = json.loads((run_dir / "run.json").read_text())["threshold"]
        assert 0 < threshold < 1
        assert tune.load(run_dir).threshold == threshold


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["freeze=mid"], "freeze"),
        (["augment=flip"], "augment"),
        (["augment=mixup"], "augment"),
        (["data.sampler=balanced"], "data.sampler"),
        (["loss=focal"], "loss"),
        (["loss=weighted", "head.name=knn"], "loss"),
        (["lr=1"], "lr"),
    ],
)
def test_what_it_cannot_follow_is_refused_before_a_folder_is_made(words, key, capsys, tmp_path):
    assert main(["run", *SMALL, "head=sklearn", *words]) == 2
    assert f"  {key} " in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_starts_nothing(capsys, tmp_path):
    assert main(["run", *SMALL, *FOREST, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "RandomForestClassifier(n_estimators=20)" in said
    assert not (tmp_path / "outputs").exists()
