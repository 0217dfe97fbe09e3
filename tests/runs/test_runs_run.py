from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest
import yaml


def test_a_run_leaves_everything_that_its_folder_promises(tune, tiny):
    done = tune("run", *tiny, "--json")
    answer = json.loads(done.stdout.splitlines()[-1])
    run_dir = tune.runs()[0]
    record = json.loads((run_dir / "run.json").read_text())
    assert answer["status"] == record["status"] == "done"
    assert answer["metrics"] == record["metrics"]
    assert {"val/accuracy", "val/loss", "test/accuracy", "test/auroc", "test/f1_macro"} <= record["metrics"].keys()
    low, high = record["intervals"]["test/accuracy"]
    assert low < record["metrics"]["test/accuracy"] <= high
    found = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()}
    pictures = {name for name in found if name.startswith("pictures/")}
    assert {"pictures/index.json", "pictures/samples.webp"} <= pictures
    assert found - pictures == {
        "config.yaml",
        "overrides.txt",
        "run.json",
        "run.log",
        "metrics.csv",
        "monitor.csv",
        "model.safetensors",
        "model.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "predictions/val.csv",
        "predictions/test.csv",
    }
    assert (run_dir / "overrides.txt").read_text().split() == tiny
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["batch_size"] == 16
    history = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert {"step", "lr", "train/loss", "val/accuracy"} <= history[0].keys()


def test_the_predictions_of_the_test_rows_give_the_reported_accuracy(tune, tiny):
    tune("run", *tiny)
    run_dir = tune.runs()[0]
    record = json.loads((run_dir / "run.json").read_text())
    for part in ("val", "test"):
        rows = list(csv.DictReader((run_dir / "predictions" / f"{part}.csv").read_text().splitlines()))
        share = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
        assert share == pytest.approx(record["metrics"][f"{part}/accuracy"])
        assert len(rows) == record["counts"][part]
        for row in rows:
            probabilities = {name: float(value) for name, value in row.items() if name.startswith("p_")}
            assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
            assert max(probabilities, key=probabilities.__getitem__) == f"p_{row['predicted']}"


def test_the_first_screen_is_short_and_says_what_is_frozen(tune, tiny):
    done = tune("run", *tiny, "augment.rotate=7", "regularize.weight_decay=0.02")
    screen = done.stderr.split("epoch 1/2")[0].strip().splitlines()
    assert len(screen) <= 12
    assert any(line.startswith("freeze") and "3,371,008 frozen" in line for line in screen)
    assert any("run " in line and "tune resume" in line for line in screen)
    assert "augment   rotate 7   regularize  weight_decay 0.02" in screen


def test_the_first_screen_speaks_of_what_is_frozen_only_where_something_is(tune, tiny):
    done = tune("run", *tiny, "freeze=full", "lr=1e9", "--dry-run")
    lines = {line.split()[0]: line for line in done.stderr.splitlines() if line.split()}
    assert "nothing frozen | 3," in lines["freeze"]
    assert "frozen" not in lines["device"]
    assert "1 thread of" in lines["device"]
    assert "lr 1e+09;" in lines["train"]


def test_a_dry_run_says_the_cost_and_makes_nothing(tune, tiny):
    done = tune("run", *tiny, "--dry-run")
    assert "cost      about" in done.stderr
    tune("run", "-m", *tiny, "lr=1e-3,1e-2", "--dry-run")
    assert not (tune.folder / "outputs").exists()


def test_a_loss_that_is_not_finite_is_diverged(tune, tiny):
    done = tune("run", *tiny, "freeze=full", "lr=1e30", "optimizer=sgd", code=5)
    record = json.loads((tune.runs()[0] / "run.json").read_text())
    assert record["status"] == "diverged"
    assert "Traceback" not in done.stderr


def test_a_folder_of_photographs_alone_is_enough(tune):
    from PIL import Image

    for k, colour in enumerate([(200, 30, 30), (30, 200, 30)]):
        folder = tune.folder / "photos" / ("red", "green")[k]
        folder.mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (40 + number, 50), tuple(c + number for c in colour)).save(folder / f"{number}.png")
    tune("run", "data.root=photos", "epochs=1")
    assert json.loads((tune.runs()[0] / "run.json").read_text())["classes"] == ["green", "red"]


def test_tensorboard_gets_metrics_and_the_graph(tune, tiny):
    tune("run", *tiny, "logger=tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tune.runs()[0] / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("val/accuracy")) == 2
    assert events.Tags()["graph"]
    assert "hp_metric" not in events.Tags()["scalars"]


def test_mlflow_gets_the_config_and_every_metric_of_every_epoch(tune, tiny):

    tune("run", *tiny, "logger=mlflow", "regularize.dropout=0.25")
    (run_dir,) = tune.runs()
    code = (
        "import json, sys; from mlflow import MlflowClient; client = MlflowClient(sys.argv[1]); "
        "ids = [e.experiment_id for e in client.search_experiments() if e.name == 'run']; "
        "(run,) = client.search_runs(ids); history = client.get_metric_history(run.info.run_id, 'val/accuracy'); "
        "print(json.dumps([run.info.status, run.info.run_name, run.data.params, run.data.metrics, "
        "[each.value for each in history]]))"
    )
    env = {**tune.env, "MLFLOW_ALLOW_FILE_STORE": "true"}
    command = [sys.executable, "-c", code, str(run_dir / "mlflow")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    status, name, params, metrics, history = json.loads(answer.splitlines()[-1])
    assert (status, name) == ("FINISHED", run_dir.name)
    assert params["regularize/dropout"] == "0.25"
    assert params["backbone/name"] == "tf_efficientnet_lite0"
    kept = json.loads((run_dir / "run.json").read_text())["metrics"]
    assert metrics["test/accuracy"] == pytest.approx(kept["test/accuracy"])
    with (run_dir / "metrics.csv").open() as file:
        assert history == pytest.approx([float(row["val/accuracy"]) for row in csv.DictReader(file)])


def test_a_logger_that_fails_does_not_fail_the_run(tune, tiny):
    (tune.folder / "mlruns").write_text("a file where the store should be a folder")
    module = tune.folder / "conf" / "logger" / "broken.yaml"
    module.parent.mkdir(parents=True)
    module.write_text("# Event files in a folder that cannot be made.\n_target_: broken.Broken\n")
    (tune.folder / "broken.py").write_text(
        "from pytorch_lightning.loggers import CSVLogger\n"
        "class Broken(CSVLogger):\n"
        "    def __init__(self):\n"
        "        super().__init__('.', name='', version='x')\n"
        "    def log_metrics(self, metrics, step=None):\n"
        "        raise OSError('the disk is full')\n"
    )
    done = tune("run", *tiny, "logger=broken", "--allow", "broken")
    assert "the logger Broken failed and is off: the disk is full" in done.stderr


def test_the_trained_network_is_loaded_and_predicts_what_the_run_said(tune, tiny):
    import tune as package
    from tune.data.readers.synthetic import Synthetic

    tune("run", *tiny, "precision=32-true", "head=mlp", "regularize=dropout")
    loaded = package.load(tune.runs()[0])
    rows = list(csv.DictReader((tune.runs()[0] / "predictions" / "test.csv").read_text().splitlines()))
    images = Synthetic(rows=60).read().images
    probs = loaded.predict([images[int(row["row"])] for row in rows])
    for row, p in zip(rows, probs, strict=True):
        assert [float(row[f"p_{name}"]) for name in loaded.classes] == pytest.approx(p.tolist(), abs=2e-6)
