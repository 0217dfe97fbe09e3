"""Losses that shape the embedding, in whole runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from tune.cli.main import main

SMALL = ["backbone.input_size=32", "batch_size=12", "epochs=3", "lr=1e-2"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]


def trained(capsys, *words, data=("data=synthetic", "data.rows=90")):
    assert main(["run", *data, *SMALL, *words, "--json"]) == 0, capsys.readouterr().err
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    run_dir = Path(answer["run_dir"])
    return run_dir, answer["metrics"], list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))


@pytest.mark.parametrize("loss", ["center", "triplet", "contrastive", "supcon"])
def test_each_term_is_logged_by_its_name_and_retrieval_is_measured(capsys, loss):
    _, metrics, rows = trained(capsys, f"loss={loss}", "head=mlp")
    assert float(rows[0][f"train/{loss}"]) > 0
    assert all(float(row["train/loss"]) > 0 for row in rows)
    assert {"val/map", "val/recall_at_1", "test/map", "test/recall_at_5"} <= metrics.keys()
    assert 0.3 < metrics["test/map"] <= 1


def test_triplets_bring_a_class_closer_together_than_cross_entropy_alone(capsys):
    words = ["head=mlp", "head.hidden=[32]", "lr=3e-3"]
    digits = ("data=digits", "data.split.per_class=12")
    _, weak, _ = trained(capsys, "loss=triplet", "loss.strength=1e-6", *words, data=digits)
    _, strong, _ = trained(capsys, "loss=triplet", "loss.strength=10", "loss.triplets=all", *words, data=digits)
    assert strong["val/map"] > weak["val/map"]


def test_centres_are_part_of_a_checkpoint_and_not_of_the_network(capsys):
    run_dir, _, _ = trained(capsys, "loss=center", "head=mlp", "head.hidden=[16]")
    state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["loss.centers"].shape == (3, 16)
    assert state["loss.centers"].abs().sum() > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["loss=triplet"], "nothing in front of it trains. Take head=mlp"),
        (["loss=supcon", "head=mlp", "augment=mixup"], "a mixed image has two"),
        (["loss=triplet", "head=mlp", "batch_size=6"], "batch_size  6 rows are not two or more classes of 4"),
        (["loss=triplet", "head=mlp", "data.sampler=balanced"], "data.sampler  balanced has no effect"),
        (["objective=val/map"], "val/map is measured with a loss that shapes the embedding"),
        (["init=normal", "init.std=0", "head=mlp"], "start with the same weights"),
    ],
)
def test_what_would_have_no_effect_is_refused_before_the_run(capsys, words, says):
    assert main(["run", "data=synthetic", "data.rows=90", *SMALL, *words]) == 2
    assert says in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_the_objective_may_be_retrieval(capsys):
    run_dir, metrics, rows = trained(capsys, "loss=contrastive", "head=mlp", "objective=val/map")
    best = max(range(len(rows)), key=lambda epoch: float(rows[epoch]["val/map"]))
    assert json.loads((run_dir / "run.json").read_text())["best_epoch"] == best + 1
    assert metrics["val/map"] == pytest.approx(float(rows[best]["val/map"]))


@pytest.mark.slow
def test_a_sweep_over_losses_falls_back_to_a_process_each_where_one_has_terms(capsys):
    words = ["-m", "loss=cross_entropy,center", "head=mlp", "epochs=1", "--json"]
    assert main(["run", "data=synthetic", "data.rows=90", *SMALL, *words]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [trial["status"] for trial in answer["trials"]] == ["done", "done"]
    assert "val/map" in answer["trials"][1]["metrics"]
    assert "val/map" not in answer["trials"][0]["metrics"]
