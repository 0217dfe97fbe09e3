"""A student learns from a teacher, in whole runs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

import tune
from tune.cli.main import main

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

LENET = ["backbone=lenet", "freeze=full", "lr=2e-3", "batch_size=16", "trainer=cpu"]
BACKBONE = ["backbone@transfer.teacher=efficientnet_lite0", "transfer.teacher.input_size=32"]
SMALL = ["data=synthetic", "data.rows=60", "backbone=lenet", "freeze=full", "epochs=1", "trainer=cpu"]


def ran(capsys, *words: str) -> tuple[Path, dict[str, float], str]:
    assert main(["run", *words, "--json"]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    answer = json.loads(said.out.splitlines()[-1])
    return Path(answer["run_dir"]), answer["metrics"], said.err


def refused(capsys, *words: str) -> str:
    before = set(Path("outputs").glob("*/*"))
    assert main(["run", *words]) == 2
    assert set(Path("outputs").glob("*/*")) == before
    return " ".join(capsys.readouterr().err.split())


def zeros_ones_twos(path: str, shift: int) -> list[str]:
    """Words for handwritten 0, 1 and 2, with labels that are off by `shift`."""
    images, labels = load_digits(n_class=3, return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    np.savez(path, images=pixels, labels=np.array(["zero", "one", "two"])[(labels + shift) % 3])
    return ["data=arrays", f"data.file={path}"]


def test_a_student_who_hears_the_teacher_alone_makes_its_mistakes(capsys):
    wrong, right = zeros_ones_twos("wrong.npz", shift=1), zeros_ones_twos("right.npz", shift=0)
    _, taught, _ = ran(capsys, *wrong, *LENET, "epochs=4", "data.classes=[two,zero,one]", "name=teacher")
    assert taught["test/accuracy"] > 0.9
    run_dir, student, said = ran(
        capsys, *right, *LENET, "epochs=4", "transfer=distill", "transfer.alpha=1", "transfer.teacher=run:latest"
    )
    assert "accuracy 0.0" in said  # of the teacher, on labels that are right
    assert student["test/accuracy"] < 0.1
    rows = list(csv.DictReader((run_dir / "predictions" / "test.csv").read_text().splitlines()))
    after = {"zero": "one", "one": "two", "two": "zero"}
    assert np.mean([after[row["label"]] == row["predicted"] for row in rows]) > 0.9
    history = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
    assert [float(row["train/loss"]) for row in history] == [0.0] * 4
    assert float(history[-1]["train/distill"]) < float(history[0]["train/distill"]) / 2
    pinned = yaml.safe_load((run_dir / "config.yaml").read_text())["transfer"]["teacher"]
    assert pinned == f"run:{next(Path('outputs/teacher').iterdir()).name.rpartition('-')[2]}"


def test_the_student_comes_to_see_the_relations_that_the_teacher_sees(capsys):
    words = [*zeros_ones_twos("right.npz", shift=0), *LENET, "epochs=3", "transfer=relational", *BACKBONE]
    weak, _, _ = ran(capsys, *words, "transfer.distance=1e-6", "transfer.angle=1e-6")
    strong, metrics, said = ran(capsys, *words)
    assert "1,280 dimensions" in said

    def last(run_dir, name, strength):
        rows = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
        return float(rows[-1][f"train/{name}"]) / strength

    assert last(strong, "distance", 25) < 0.8 * last(weak, "distance", 1e-6)
    assert last(strong, "angle", 50) < 0.8 * last(weak, "angle", 1e-6)
    assert metrics["test/accuracy"] > 0.6


def test_a_backbone_teaches_by_a_classifier_on_its_features_and_is_asked_once(capsys):
    _, metrics, said = ran(capsys, *SMALL, "epochs=2", "transfer=distill", *BACKBONE, "augment=flip")
    assert "(logistic regression, in folds): accuracy" in said
    assert metrics["test/accuracy"] > 0
    kept = [path.stat().st_mtime_ns for path in Path("cache").rglob("*.rows")]
    assert len(kept) == 1
    ran(capsys, *SMALL, "epochs=2", "transfer=relational", *BACKBONE, "augment=flip")
    assert [path.stat().st_mtime_ns for path in Path("cache").rglob("*.rows")] == kept


@pytest.mark.slow
def test_a_sweep_over_alpha_trains_each_student(capsys):
    ran(capsys, *SMALL, "name=teacher")
    words = [*SMALL, "transfer=distill", "transfer.teacher=run:latest", "transfer.alpha=0.2,1", "--json"]
    assert main(["run", "-m", *words]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len({trial["metrics"]["val/loss"] for trial in answer["trials"]}) == 2


def test_a_teacher_that_may_have_learned_test_rows_is_told_of(capsys):
    ran(capsys, *SMALL, "name=teacher")
    student = [*SMALL, "transfer=distill", "transfer.teacher=run:latest"]
    _, _, same = ran(capsys, *student)
    _, _, other = ran(capsys, *student, "data.split.seed=1", "name=other")
    assert "may have trained the teacher" not in same
    assert "of this run's 12 test rows may have trained the teacher" in other


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Folder of a finished run of three classes: circle, square, triangle."""
    folder = tmp_path_factory.mktemp("teacher")
    assert main(["run", *SMALL, f"output={folder}", "name=teacher"]) == 0
    return next(folder.glob("teacher/*"))


def test_a_teacher_of_other_classes_is_refused_and_its_relations_are_not(capsys, taught):
    digits = [*zeros_ones_twos("right.npz", shift=0), *LENET, "epochs=1"]
    said = refused(capsys, *digits, "transfer=distill", f"transfer.teacher=run:{taught}")
    names = tune.load(taught).classes
    assert f"tells {', '.join(names)}; the data have one, two, zero" in said
    _, metrics, _ = ran(capsys, *digits, "transfer=relational", f"transfer.teacher=run:{taught}")
    assert metrics["val/loss"] > 0


def test_a_run_that_is_not_there_or_not_done_or_an_ensemble_is_no_teacher(capsys, taught):
    student = [*SMALL, "transfer=distill"]
    assert "transfer.teacher abc: no such run" in refused(capsys, *student, "transfer.teacher=run:abc")
    assert "no such run" in refused(capsys, *student, "transfer.teacher=run:latest")
    shutil.copytree(taught, "outputs/half/x-111111")
    record = Path("outputs/half/x-111111/run.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "interrupted"}))
    said = refused(capsys, *student, "transfer.teacher=run:111111")
    assert "run 111111 is interrupted, not done. Let it finish (tune resume 111111)" in said
    shutil.copytree(taught, "outputs/many/x-222222")
    Path("outputs/many/x-222222/ensemble.json").write_text("{}")
    assert "run 222222 is an ensemble" in refused(capsys, *student, "transfer.teacher=run:222222")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["transfer=distill"], "transfer.teacher"),
        (
            ["transfer=distill", "transfer.teacher=efficientnet_lite0"],
            "by backbone@transfer.teacher=efficientnet_lite2",
        ),
        (["transfer=distill", *BACKBONE, "augment=mixup"], "augment mixes two images"),
        (["transfer=relational", *BACKBONE, "augment=cutmix"], "augment mixes two images"),
        (["transfer=distill", *BACKBONE, "transfer.teacher.weights=none"], "random weights have nothing to teach"),
        (["transfer=distill", *BACKBONE, "transfer.alpha=0"], "in (0, 1]"),
        (["transfer=distill", *BACKBONE, "transfer.temperature=0"], "in (0, 100]"),
        (["transfer=distill", *BACKBONE, "data.split.per_class=1"], "has a single training row"),
        (["transfer=distill", *BACKBONE, "transfer.output=x"], "is a key of the run: set output"),
        (["transfer=relational", *BACKBONE, "transfer.distance=0", "transfer.angle=0"], "both 0"),
        (["transfer=relational", *BACKBONE, "freeze=deep"], "nothing in front of it trains"),
        (
            ["transfer=relational", *BACKBONE, "transfer.teacher.name=resnet10t"],
            "transfer.teacher.weights no package carries",
        ),
    ],
)
def test_what_cannot_teach_is_refused_before_the_run(capsys, words, says):
    assert says in refused(capsys, *SMALL, *words)


def test_the_teacher_is_no_part_of_the_student(capsys):
    run_dir, _, _ = ran(capsys, *SMALL, "transfer=distill", *BACKBONE)
    state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.partition(".")[0] for name in state} == {"network"}
    assert sum(tensor.numel() for tensor in state.values()) < 100_000
