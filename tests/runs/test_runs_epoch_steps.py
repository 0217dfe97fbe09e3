"""Epochs of so many steps: the same steps in the same order, looked at more often or less."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from tune.cli.main import main

# 58 rows train: a pass is four steps.
SMALL = ["data=synthetic", "data.rows=90", "backbone.input_size=32", "batch_size=16", "lr=1e-2"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]


def trained(capsys, *words):
    assert main(["run", *SMALL, *words, "--json"]) == 0, capsys.readouterr().err
    run_dir = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["run_dir"])
    rows = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
    last = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    return rows, last, json.loads((run_dir / "run.json").read_text())


CUTS = {"shorter": ["epochs=6", "epoch_steps=2"], "longer": ["epochs=2", "epoch_steps=6"]}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("cache", ["auto", "never"])
def test_as_many_steps_end_at_the_same_weights_however_they_are_cut(capsys, cut, cache):
    words = ["augment=flip", "regularize.dropout=0.3", "scheduler=one_cycle", f"cache={cache}"]
    rows, whole, _ = trained(capsys, *words, "epochs=3")
    others, found, _ = trained(capsys, *words, *CUTS[cut])
    assert whole["global_step"] == found["global_step"] == 12
    assert all(torch.equal(tensor, found["state_dict"][name]) for name, tensor in whole["state_dict"].items())
    assert rows[-1]["lr"] == others[-1]["lr"]
    assert rows[-1]["val/loss"] == others[-1]["val/loss"]
    by_step = {row["step"]: row["val/loss"] for row in rows}
    assert all(by_step.get(row["step"], row["val/loss"]) == row["val/loss"] for row in others)
    assert [int(row["step"]) for row in others] == ([2, 4, 6, 8, 10, 12] if cut == "shorter" else [6, 12])


def test_early_stopping_and_the_best_weights_go_by_steps(capsys):
    words = ["epochs=40", "epoch_steps=1", "regularize.early_stopping=3", "regularize.min_delta=0.02"]
    rows, _, record = trained(capsys, *words, "objective=val/loss", "scheduler=constant", "optimizer=sgd", "lr=30")
    losses = [float(row["val/loss"]) for row in rows]
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))
    best, waited, peak = 0, 0, float("inf")
    for number, loss in enumerate(losses):
        best = number if loss < losses[best] else best
        peak, waited = (loss, 0) if loss < peak - 0.02 else (peak, waited + 1)
        assert (waited == 3) == (number == len(losses) - 1)  # it ends there and not before
    assert record["best_epoch"] == best + 1
    assert record["metrics"]["val/loss"] == losses[best]
    assert len(rows) < 40


def test_the_freeze_audit_waits_until_all_rows_have_come(capsys):
    # With a last layer of zeros the hidden one has no gradient in the first step.
    rows, _, _ = trained(capsys, "head=mlp", "init=zeros_last", "epochs=4", "epoch_steps=1")
    assert len(rows) == 4


def test_accumulated_batches_fill_a_step(capsys):
    rows, last, _ = trained(capsys, "+trainer.accumulate_grad_batches=2", "epochs=3", "epoch_steps=3")
    assert last["global_step"] == 9
    assert [int(row["step"]) for row in rows] == [3, 6, 9]


def test_lbfgs_may_take_several_steps_per_epoch_but_not_parts_of_the_rows(capsys):
    words = ["optimizer=lbfgs", "lr=1", "scheduler=constant", "regularize.l2=1e-2", "epochs=1", "epoch_steps=2"]
    _, last, _ = trained(capsys, *words, "batch_size=100")
    assert last["global_step"] >= 2
    assert main(["run", *SMALL, *words]) == 2
    assert "lbfgs needs all rows in each step" in " ".join(capsys.readouterr().err.split())
