"""The threshold of a decision, chosen on validation rows, in whole runs: alone, as one of several, and loaded."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

import tune
from tune.cli.main import main
from tune.data.readers.synthetic import Synthetic

HARD = ["data=synthetic", "data.classes=2", "data.rows=160", "data.noise=0.9", "backbone.input_size=32", "lr=1e-4"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]


def told(run_dir):
    record = json.loads((run_dir / "run.json").read_text())
    tables = {}
    for part in ("val", "test"):
        rows = list(csv.DictReader((run_dir / "predictions" / f"{part}.csv").read_text().splitlines()))
        label, predicted = ([int(row[key] == record["classes"][1]) for row in rows] for key in ("label", "predicted"))
        tables[part] = (
            np.array(label),
            np.array(predicted),
            np.array([float(row[f"p_{record['classes'][1]}"]) for row in rows]),
        )
    return record, yaml.safe_load((run_dir / "model.yaml").read_text()), tables


def assert_decided_by(run_dir, metric):
    """What the run's files say follows from its threshold, and no other is better on validation rows."""
    record, described, tables = told(run_dir)
    threshold = record["threshold"]
    assert described["threshold"] == threshold
    for _, predicted, p in tables.values():
        sure = abs(p - threshold) > 1e-6  # the table has six digits
        assert (predicted == (p > threshold))[sure].all()
    score = {"f1": f1_score, "balanced_accuracy": balanced_accuracy_score}[metric]
    label, predicted, p = tables["val"]
    assert score(label, predicted) >= max(score(label, p > step / 500) for step in range(1, 500)) - 1e-9
    label, predicted, _ = tables["test"]
    assert record["metrics"]["test/f1"] == pytest.approx(f1_score(label, predicted))
    assert record["metrics"]["test/accuracy"] == pytest.approx((label == predicted).mean())
    assert record["confusion"] == confusion_matrix(label, predicted).tolist()
    low, high = record["intervals"]["test/accuracy"]
    assert low < record["metrics"]["test/accuracy"] < high
    return threshold


def test_a_run_decides_by_the_threshold_that_was_best_on_validation_rows(capsys):
    assert main(["run", *HARD, "epochs=2", "threshold=f1", "--json"]) == 0
    said = capsys.readouterr().out.splitlines()
    run_dir = Path(json.loads(said[-1])["run_dir"])
    threshold = assert_decided_by(run_dir, "f1")
    assert threshold != 0.5
    assert f"threshold {threshold:.3g}" in said[0]
    run = tune.load(run_dir)
    assert run.threshold == threshold
    images = list(Synthetic(2, 40, noise=0.9).read().images)
    probs = run.predict(images)[:, 1].double()
    assert run.classify(images) == [run.classes[int(p > threshold)] for p in probs]
    # Without, the same epoch is the best, and its metrics on validation rows are the same.
    assert main(["run", *HARD, "epochs=2", "--json"]) == 0
    plain, described, tables = told(Path(json.loads(capsys.readouterr().out.splitlines()[-1])["run_dir"]))
    record = told(run_dir)[0]
    assert plain["threshold"] is described["threshold"] is None
    assert plain["best_epoch"] == record["best_epoch"]
    assert plain["metrics"]["val/f1"] == record["metrics"]["val/f1"]
    assert plain["metrics"]["test/auroc"] == record["metrics"]["test/auroc"]
    assert (tables["test"][1] == (tables["test"][2] > 0.5)).all()


@pytest.mark.slow
def test_trials_that_train_as_one_decide_each_by_its_own(capsys):
    words = ["threshold=null,0.2,f1,balanced_accuracy", "lr=3e-3,3e-2", "epochs=2"]
    assert main(["run", "-m", *HARD[:-1], *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["fused_groups"] == 1
    found = {}
    for trial in answer["trials"]:
        run_dir, wanted = Path(trial["run_dir"]), trial["overrides"][-3].partition("=")[2]
        record, described, _ = told(run_dir)
        assert record["fused"] == 1
        assert described["threshold"] == record["threshold"]
        found.setdefault(wanted, []).append(record["threshold"])
        if wanted in ("f1", "balanced_accuracy"):
            assert_decided_by(run_dir, wanted)
    assert found["null"] == [None, None]
    assert found["0.2"] == [0.2, 0.2]
    alone = ["threshold=f1", "lr=3e-2", "epochs=2", "sweep.fuse=false"]
    assert main(["run", *HARD[:-1], *alone, "--json"]) == 0
    record, _, _ = told(Path(json.loads(capsys.readouterr().out.splitlines()[-1])["run_dir"]))
    assert record["threshold"] == pytest.approx(found["f1"][1], abs=1e-3)


@pytest.mark.parametrize("word", ["threshold=f1", "threshold=0.3"])
def test_more_than_two_classes_have_no_threshold(word, capsys, tmp_path):
    assert main(["run", "data=synthetic", "data.rows=60", "backbone.input_size=32", word]) == 2
    assert "threshold" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("word", ["threshold=1.0", "threshold=0", "threshold=auroc"])
def test_what_is_no_threshold_is_refused(word, capsys):
    assert main(["run", *HARD, word]) == 2
    assert "threshold" in capsys.readouterr().err
