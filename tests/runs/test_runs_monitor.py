"""The monitor and the watch for numbers that are not finite, in whole runs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tune.cli.main import main

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

CONVNET = ["data=synthetic", "data.rows=60", "batch_size=16", "backbone=convnet", "freeze=full", "epochs=3"]
LOSS = '''
import torch
from torch.nn import functional as F


class Spoiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("nan")


class Planted:
    """Cross-entropy, of which one training call gives NaN, or a NaN gradient alone."""

    def __init__(self, call: int, gradient: bool = False) -> None:
        self.call, self.gradient, self.calls = call, gradient, 0

    def __call__(self, output, batch):
        loss = F.cross_entropy(output.logits, batch.label_probs)
        self.calls += torch.is_grad_enabled()
        if not torch.is_grad_enabled() or self.calls != self.call:
            return loss
        return Spoiled.apply(loss) if self.gradient else loss * float("nan")
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """The words that choose a loss whose fifth call is NaN: step 5 of 3 an epoch."""
    (tmp_path / "planted_loss.py").write_text(LOSS)
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "conf/loss/planted.yaml").write_text("# Planted.\n_target_: planted_loss.Planted\ncall: 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    return ["loss=planted", "--allow", "planted_loss"]


def run(capsys, *words: str, code: int = 0):
    """Gives the run folder, its record and what was said."""
    assert main(["run", *words, "--json"]) == code, capsys.readouterr().err
    captured = capsys.readouterr()
    folder = Path(json.loads(captured.out.splitlines()[-1])["run_dir"])
    return folder, json.loads((folder / "run.json").read_text()), captured.err


def test_a_planted_nan_stops_at_its_step_and_keeps_the_checkpoint_before(planted, capsys):
    folder, record, said = run(capsys, *CONVNET, *planted, code=5)
    assert (record["status"], record["exit_code"]) == ("diverged", 5)
    found = re.search(
        r"loss is no longer a finite number \(epoch 2, step 5, batch 2 with (.*)\): (.*)", record["cause"]
    )
    assert found, record["cause"]
    assert len(found[1].split(", ")) == 3
    assert "every layer gives finite numbers, but the term loss is none" in found[2]
    assert record["cause"] in said
    assert "Traceback" not in said
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 0
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())
    assert {row["epoch"] for row in csv.DictReader((folder / "monitor.csv").read_text().splitlines())} == {"1"}


def test_a_run_that_diverged_at_once_says_on_resume_that_it_begins_anew(planted, capsys):
    folder, _, said = run(capsys, *CONVNET, *planted, "loss.call=3", code=5)
    assert not (folder / "checkpoints/last.ckpt").exists()
    assert said.count("with row") == 1, "the rows are told once, not in the verdict too"
    assert main(["resume", "latest", "--allow", "planted_loss"]) == 5
    said = capsys.readouterr().err
    assert "note: it diverged, and will again with the same config; what to change: tune next " in said
    assert "there is no checkpoint; it begins anew" in said


def test_a_gradient_that_is_nan_beside_a_finite_loss_stops_too(planted, capsys):
    _, record, _ = run(capsys, *CONVNET, *planted, "+loss.gradient=true", code=5)
    assert record["cause"].startswith("the gradient is no longer a finite number (epoch 2, step 5, batch 2 with ")
    assert "it begins in layer head" in record["cause"]


def test_a_rate_that_blows_the_weights_up_names_a_layer(capsys):
    _, record, _ = run(capsys, *CONVNET, "optimizer=sgd", "lr=1e30", "backbone.norm=none", code=5)
    assert re.search(r"step [234], batch .* it begins in layer (conv\d|head), in what ", record["cause"]), record[
        "cause"
    ]


def test_tensorboard_gets_histograms_and_numbers_of_the_step_that_is_looked_at(capsys):
    folder, _, said = run(capsys, *CONVNET, "logger=tensorboard", "lr=1e-3")
    assert "warning" not in said
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0}).Reload()
    tags = events.Tags()
    trained = {name for name in events.Tags()["histograms"] if name.startswith("weights/")}
    assert {"weights/network.backbone.conv1.conv.weight", "weights/network.head.linear.bias"} <= trained
    assert {name.replace("weights/", "gradients/") for name in trained} == set(tags["histograms"]) - trained
    rows = list(csv.DictReader((folder / "monitor.csv").read_text().splitlines()))
    head = [row for row in rows if row["layer"] == "head"]
    spread = events.Histograms("weights/network.head.linear.weight")
    assert [each.step for each in spread] == [int(row["step"]) for row in head] == [2, 5, 8]
    squares = spread[0].histogram_value.sum_squares
    squares += events.Histograms("weights/network.head.linear.bias")[0].histogram_value.sum_squares
    assert squares**0.5 == pytest.approx(float(head[0]["weight_norm"]), rel=1e-4)
    scalars = events.Scalars("monitor/head/update_ratio")
    assert [each.value for each in scalars] == pytest.approx([float(row["update_ratio"]) for row in head], rel=1e-4)


def test_it_can_be_switched_off_and_changes_no_number(capsys):
    on, _, _ = run(capsys, *CONVNET, "regularize.l2=1e-3", "epochs=2", "name=on")
    off, _, _ = run(capsys, *CONVNET, "regularize.l2=1e-3", "epochs=2", "name=off", "monitor=false")
    assert (on / "monitor.csv").exists()
    assert not (off / "monitor.csv").exists()
    assert (on / "metrics.csv").read_bytes() == (off / "metrics.csv").read_bytes()
    assert "train/l2" in (on / "metrics.csv").read_text()
