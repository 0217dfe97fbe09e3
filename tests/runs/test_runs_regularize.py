"""Regularizers and optimizers that change how a step is made, in whole runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.train.learner import Learner
from tune.train.prepare import prepare

SMALL = ["data=synthetic", "data.rows=90", "backbone.input_size=32", "batch_size=16", "lr=1e-2"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]


def trained(capsys, *words):
    assert main(["run", *SMALL, *words, "--json"]) == 0, capsys.readouterr().err
    run_dir = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["run_dir"])
    rows = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
    return run_dir, json.loads((run_dir / "run.json").read_text()), rows


def test_a_sharpness_aware_step_takes_the_gradient_from_the_worst_point_nearby(capsys):
    config = compose(ConfigTree(), [*SMALL, "optimizer=sgd", "scheduler=constant", "epochs=1", "precision=32-true"]).cfg
    learner: Learner = prepare(config).learner
    weight = learner.network.head.linear.weight.detach().clone()
    batch = next(iter(prepare(config).data.train_dataloader()))["target"]
    features = batch.images

    def gradients(head, bias):
        head, bias = head.clone().requires_grad_(), bias.clone().requires_grad_()
        torch.nn.functional.cross_entropy(features @ head.T + bias, batch.labels).backward()
        return head.grad, bias.grad

    zero = torch.zeros(3)
    first = gradients(weight, zero)
    norm = (first[0].square().sum() + first[1].square().sum()).sqrt()
    second = gradients(weight + 0.5 * first[0] / norm, zero + 0.5 * first[1] / norm)
    expected = weight - 1e-2 * second[0]
    words = ["optimizer=sgd", "scheduler=constant", "epochs=1", "regularize.sam=0.5", "+trainer.limit_train_batches=1"]
    run_dir, _, rows = trained(capsys, *words, "precision=32-true")
    found = load_file(run_dir / "model.safetensors")["head.linear.weight"]
    plain = weight - 1e-2 * first[0]
    assert (found - expected).norm() < 0.1 * (found - plain).norm()
    loss = torch.nn.functional.cross_entropy(features @ weight.T, batch.labels)
    assert float(rows[0]["train/loss"]) == pytest.approx(
        float(loss), rel=0.02
    )  # of the weights, not of the worst point


def same(left, right):
    first, second = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    return all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_validated_and_kept_is_the_average(capsys):
    plain, _, rows = trained(capsys, "epochs=3", "scheduler=constant", "objective=val/loss")
    averaged, _, others = trained(capsys, "epochs=3", "scheduler=constant", "objective=val/loss", "regularize.ema=0.99")
    assert not same(plain, averaged)
    assert [row["train/loss"] for row in rows] == [row["train/loss"] for row in others]  # training is the same
    assert all(one["val/loss"] != other["val/loss"] for one, other in zip(rows, others, strict=True))


def test_l1_brings_weights_to_zero_and_l2_does_not_and_both_say_how_many(capsys):
    words = ["epochs=20", "scheduler=cosine", "optimizer=sgd", "lr=6e-2", "objective=val/loss"]
    _, record, rows = trained(capsys, *words, "regularize.l1=0.1")
    assert record["weights_at_zero"] > 0.3
    assert float(rows[-1]["train/l1"]) > 0
    _, weak, _ = trained(capsys, *words, "regularize.l1=1e-6")
    assert weak["weights_at_zero"] < 0.1
    _, other, _ = trained(capsys, *words, "regularize.l2=0.1")
    assert other["weights_at_zero"] < 0.1
    _, none, _ = trained(capsys, *words)
    assert "weights_at_zero" not in none


def test_l2_sp_keeps_the_backbone_near_its_weights(capsys):
    words = ["freeze=mid", "epochs=2", "optimizer=sgd", "lr=0.05", "precision=32-true"]
    start = load_file(trained(capsys, "epochs=1", "freeze=deep")[0] / "model.safetensors")

    def distance(run_dir):
        now = load_file(run_dir / "model.safetensors")
        names = [name for name in now if name.startswith("backbone.") and now[name].ndim > 1]
        return sum(float((now[name] - start[name]).square().sum()) for name in names)

    free, _, _ = trained(capsys, *words)
    near, _, rows = trained(capsys, *words, "regularize.l2_sp=5.0")
    assert 0 < distance(near) < distance(free)
    assert float(rows[-1]["train/l2_sp"]) > 0


def test_lbfgs_trains_a_head_in_one_epoch_and_refuses_small_batches(capsys):
    _, record, _ = trained(capsys, "optimizer=lbfgs", "lr=1", "batch_size=1000", "epochs=2", "regularize.l2=1e-3")
    assert record["metrics"]["test/accuracy"] > 0.9
    assert main(["run", *SMALL, "optimizer=lbfgs"]) == 2
    assert "lbfgs needs all rows in each step: batch_size=" in capsys.readouterr().err.replace("batch_size  ", "", 1)
