"""Several targets from one network, in whole runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tune
from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.data.readers.synthetic import Synthetic
from tune.train.fused.group import fuse_key

SMALL = ["backbone.input_size=32", "batch_size=16", "epochs=3", "lr=1e-2"]
TWO = "data.tasks={half:{kind:classification},x:{kind:regression}}"

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]


@pytest.fixture
def arrays(tmp_path):
    """Shapes with a task of each kind, of which a third of the rows say nothing."""
    table = Synthetic(rows=90).read()
    x, y = table.columns["x"], table.columns["y"]
    edges = [
        "|".join(word for word, has in (("left", a < 0.5), ("top", b < 0.5)) if has) or "|"
        for a, b in zip(x, y, strict=True)
    ]
    hidden = np.arange(90) % 3 == 2
    np.savez(
        tmp_path / "images.npz",
        images=table.images,
        labels=table.labels,
        half=np.where(hidden, "", table.columns["half"]),
        edges=np.where(np.roll(hidden, 1), "", edges),
        radius=np.where(np.roll(hidden, 2), np.nan, 100 * table.columns["radius"]),
    )
    kinds = "half:{kind:classification},edges:{kind:multi_label},radius:{kind:regression}"
    return ["data=arrays", "data.file=images.npz", f"data.tasks={{{kinds}}}"]


def trained(capsys, *words, head="head=multi_task"):
    assert main(["run", *SMALL, *words, *([head] if head else []), "--json"]) == 0, capsys.readouterr().err
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    run_dir = Path(answer["run_dir"])
    return run_dir, answer["metrics"], read(run_dir / "metrics.csv")


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_each_task_has_its_loss_its_metrics_and_its_predictions(capsys, arrays):
    run_dir, metrics, rows = trained(capsys, *arrays)
    for part in ("val", "test"):
        assert {f"{part}/half/balanced_accuracy", f"{part}/edges/f1_macro", f"{part}/radius/mae"} <= metrics.keys()
        for task in ("half", "edges", "radius"):
            assert metrics[f"{part}/{task}/loss"] > 0
            assert len(read(run_dir / "predictions" / f"{part}_{task}.csv")) == len(
                read(run_dir / "predictions" / f"{part}.csv")
            )
    assert all(float(row[f"train/{task}/loss"]) > 0 for row in rows for task in ("half", "edges", "radius"))
    test = read(run_dir / "predictions" / "test_half.csv")
    known = [row for row in test if row["label"]]
    assert 0 < len(known) < len(test)
    right = sum(row["label"] == row["predicted"] for row in known)
    assert metrics["test/half/accuracy"] == pytest.approx(right / len(known))
    told = [
        (float(row["label"]), float(row["predicted"]))
        for row in read(run_dir / "predictions" / "test_radius.csv")
        if row["label"]
    ]
    assert metrics["test/radius/mae"] == pytest.approx(np.mean([abs(a - b) for a, b in told]), rel=1e-5)
    record = json.loads((run_dir / "run.json").read_text())
    assert record["metrics"]["test/radius/mae"] == metrics["test/radius/mae"]
    assert sum(record["tasks"]["half"].values()) == 60


def test_tasks_beside_it_leave_a_label_on_frozen_features_as_it_is_alone(capsys):
    """With first weights of zero and nothing shared that trains, the label's own outputs see no other task."""
    data = ["data=synthetic", "data.rows=90", "init=zeros_last", "objective=val/loss"]
    alone, one, _ = trained(capsys, *data, head="")
    beside, both, _ = trained(capsys, *data, TWO)
    label = load_file(beside / "model.safetensors")["head.linear.weight"][:3]
    assert torch.allclose(label, load_file(alone / "model.safetensors")["head.linear.weight"], atol=1e-6)
    assert both["test/loss"] == pytest.approx(one["test/loss"], abs=1e-6)


def test_the_objective_may_be_that_of_a_task_and_errors_are_better_small(capsys):
    run_dir, metrics, rows = trained(capsys, "data=synthetic", "data.rows=90", TWO, "objective=val/x/mae")
    best = min(range(len(rows)), key=lambda epoch: float(rows[epoch]["val/x/mae"]))
    assert json.loads((run_dir / "run.json").read_text())["best_epoch"] == best + 1
    assert metrics["val/x/mae"] == pytest.approx(float(rows[best]["val/x/mae"]))


def test_learned_weights_are_part_of_a_checkpoint_and_not_of_the_network(capsys, arrays):
    run_dir, _, rows = trained(capsys, *arrays, "head.weights=uncertainty", "cache=never")
    state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert (state["loss.log_variances"] != 0).all()
    assert not any("variance" in name for name in load_file(run_dir / "model.safetensors"))
    assert all(float(row["train/uncertainty"]) != 0 for row in rows)


def test_a_step_over_all_rows_moves_learned_weights_with_the_head(capsys, arrays):
    words = ["head.weights=uncertainty", "optimizer=lbfgs", "optimizer.max_iter=3", "lr=0.1", "batch_size=100"]
    _, _, rows = trained(capsys, *arrays, *words)
    losses = [float(row["train/radius/loss"]) + float(row["train/uncertainty"]) for row in rows]
    assert len(rows) == 3
    assert losses[2] < losses[0]


def test_the_cache_changes_no_number(capsys, arrays):
    _, kept, _ = trained(capsys, *arrays, "cache=require")
    _, anew, _ = trained(capsys, *arrays, "cache=never")
    assert anew == pytest.approx(kept, abs=1e-4)


def test_a_loaded_run_tells_its_tasks(capsys, arrays):
    run_dir, _, _ = trained(capsys, *arrays, "head.hidden=[16]")
    images = np.load("images.npz")["images"]
    loaded = tune.load(run_dir)
    rows = read(run_dir / "predictions" / "test_radius.csv")
    wanted = [images[int(row["row"])] for row in rows]
    told = loaded.predict_tasks(wanted)
    assert loaded.tasks["edges"].classes == ["left", "top"]
    assert told["radius"].tolist() == pytest.approx([float(row["predicted"]) for row in rows], rel=0.02)
    probs = [float(row["p_top"]) for row in read(run_dir / "predictions" / "test_edges.csv")]
    assert told["edges"][:, 1].tolist() == pytest.approx(probs, abs=0.02)
    assert told["half"].shape == (len(rows), 2)


def test_trials_with_tasks_train_alone():
    tree = ConfigTree()
    assert fuse_key(compose(tree, ["data=synthetic"]).cfg) is not None
    assert fuse_key(compose(tree, ["data=synthetic", TWO, "head=multi_task"]).cfg) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([TWO], "data.tasks  (command line)  has no effect: this head tells the label alone. Take head=multi_task"),
        (["head=multi_task"], "data.tasks  needs a value: head=multi_task tells columns beside the label"),
        ([TWO, "head=multi_task", "augment=mixup"], "mixes the labels of two rows, which those of data.tasks"),
        ([TWO, "head=multi_task", "data.tasks.x.wieght=2"], "data.tasks.x.wieght"),
        ([TWO, "head=multi_task", "data.tasks.x.weight=0"], "data.tasks.x.weight  (command line)  must be a number in"),
        (
            [TWO, "head=multi_task", "data.tasks.x.weight=2", "head.weights=uncertainty"],
            "data.tasks.x.weight  (command line)  has no effect: head.weights=uncertainty learns it",
        ),
        (["head=multi_task", "data.tasks={x:{}}"], "data.tasks.x.kind"),
        (["head=multi_task", "data.tasks={z:{kind:regression}}"], "there is no column z. It has: x, y, radius, half"),
        ([TWO, "head=multi_task", "objective=val/x/accuracy"], "val/half/loss, val/x/mae, val/x/rmse"),
    ],
)
def test_what_does_not_go_with_tasks_is_refused_before_the_run(capsys, words, says):
    assert main(["run", "data=synthetic", "data.rows=90", *SMALL, *words]) == 2
    assert says in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_a_task_without_labels_in_validation_is_refused(capsys, tmp_path):
    table = Synthetic(rows=60).read()
    split = np.array((["train"] * 3 + ["val"] + ["test"] + ["train"]) * 10)
    half = np.where(split == "val", "", table.columns["half"])
    np.savez(tmp_path / "given.npz", images=table.images, labels=table.labels, half=half, split=split)
    tasks = "data.tasks={half:{kind:classification}}"
    assert main(["run", "data=arrays", "data.file=given.npz", "head=multi_task", tasks, *SMALL]) == 2
    assert "data.tasks.half  (command line)  no row of val has a label of it" in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_f1_of_more_than_two_classes_is_no_objective(capsys, arrays):
    words = [*arrays[:2], "data.tasks={edges:{kind:classification}}", "head=multi_task", "objective=val/edges/f1"]
    assert main(["run", *words, *SMALL]) == 2
    assert "val/edges/f1 is for two classes; val/edges/f1_macro is its mean" in capsys.readouterr().err
    assert not Path("outputs").exists()
