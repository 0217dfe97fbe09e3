"""tune lr-find, lr=auto and tune batch-find: what they say, and that they leave nothing behind."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file

from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.train.prepare import prepare
from tune.train.probe.batch_size import STEPS, of_size
from tune.train.probe.divide import divide, judge
from tune.train.probe.losses import losses_at
from tune.train.probe.range_test import range_test, suggest
from tune.train.probe.rate import find_rate
from tune.train.probe.steps import train_steps

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

SHAPES = ["data=synthetic", "data.rows=60", "batch_size=16", "epochs=2", "trainer=cpu", "precision=32-true"]
CONVNET = [*SHAPES, "backbone=convnet", "backbone.input_size=16", "freeze=full", "regularize.dropout=0.3"]
HEAD = [*SHAPES, "backbone.input_size=32"]


def prepared_of(*words):
    composed = compose(ConfigTree(), list(words))
    assert composed.problems == []
    return prepare(composed.cfg, decode=False)


def state_of(prepared):
    """Every tensor of the learner and every generator, copied."""
    tensors = {name: tensor.clone() for name, tensor in prepared.learner.state_dict().items()}
    return tensors, random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()


def answer_of(capsys, *words, code=0):
    got = main([*words, "--json"])
    said = capsys.readouterr()
    assert got == code, said.err
    return json.loads(said.out.splitlines()[-1]), said.out, said.err


def test_everything_is_as_before_to_the_last_bit():
    prepared = prepared_of(*CONVNET)
    assert any("running_mean" in name for name, _ in prepared.learner.named_buffers())
    modes = [module.training for module in prepared.learner.modules()]
    first = losses_at(prepared, [1e-2] * 4)
    before = state_of(prepared)
    found = find_rate(prepared)
    after = state_of(prepared)
    assert len(found.curve.rates) > 5
    assert len(found.tries.losses) > 2
    assert all(before[0][name].equal(tensor) for name, tensor in after[0].items())
    assert before[1:3] == after[1:3]
    assert before[3].equal(after[3])
    assert [module.training for module in prepared.learner.modules()] == modes
    assert all(parameter.grad is None for parameter in prepared.learner.parameters())
    assert losses_at(prepared, [1e-2] * 4) == first


def test_every_group_keeps_its_share_of_the_rate():
    prepared = prepared_of(*CONVNET, "freeze.backbone_lr=0.1", "freeze.decay=0.5")
    make, seen = prepared.learner.make_optimizer, []

    def watched(groups):
        optimizer = make(groups)
        optimizer.register_step_pre_hook(
            lambda made, *_: seen.append({group["name"]: group["lr"] for group in made.param_groups})
        )
        return optimizer

    prepared.learner.make_optimizer = watched
    typed = {group["name"]: group["lr"] for group in prepared.learner.groups()}
    shares = {name: lr / typed["head"] for name, lr in typed.items()}
    rates = [1e-4, 3e-4, 7e-4]
    losses_at(prepared, rates)
    assert len(set(shares.values())) > 2
    for rate, told in zip(rates, seen, strict=True):
        assert told == pytest.approx({name: share * rate for name, share in shares.items()})
    assert {group["name"]: group["lr"] for group in prepared.learner.groups()} == typed


def test_the_loss_of_a_step_is_the_mean_of_its_batches():
    alone = losses_at(prepared_of(*HEAD), [1e-12])
    parts = losses_at(prepared_of(*HEAD, "trainer.accumulate_grad_batches=2"), [1e-12])
    assert parts == pytest.approx(alone, rel=1e-5)


def test_a_bowl_gives_the_largest_rate_of_theory():
    # strength / 2 * sum of w^2 has the curvature `strength`; beside it the loss on the images is flat.
    prepared = prepared_of(*HEAD, "optimizer=sgd", "regularize.l2=1000", "init=normal")
    stable = 2 / 1000
    assert stable / 3 < suggest(range_test(prepared)).largest_stable < 3 * stable
    assert stable / 3.1 < judge(divide(prepared, 1.0)).largest_stable < 1.1 * stable


@pytest.mark.parametrize("words", [CONVNET, [*HEAD, "regularize.dropout=0.2"]], ids=["network", "head"])
def test_a_run_that_looks_for_its_rate_is_the_run_in_which_it_was_typed(capsys, words):
    auto, _, said = answer_of(capsys, "run", *words, "lr=auto")
    record = json.loads((Path(auto["run_dir"]) / "run.json").read_text())["auto"]["lr"]
    assert f"lr        auto → {record['lr']:g}: {record['reason']}" in said
    typed, _, _ = answer_of(capsys, "run", *words, f"lr={record['lr']}")
    assert auto["metrics"] == typed["metrics"]
    one, other = (load_file(Path(each["run_dir"]) / "model.safetensors") for each in (auto, typed))
    assert all(one[name].equal(other[name]) for name in other)
    found, _, _ = answer_of(capsys, "lr-find", *words)
    assert found["lr"] == record["lr"]


def test_a_resumed_run_keeps_its_rate_and_looks_for_none(capsys):
    auto, _, _ = answer_of(capsys, "run", *HEAD, "lr=auto")
    run_dir = Path(auto["run_dir"])
    for path in (run_dir / "checkpoints").iterdir():
        path.unlink()
    (run_dir / "metrics.csv").unlink()
    record = json.loads((run_dir / "run.json").read_text())
    record["auto"]["lr"] |= {"lr": 0.000123, "reason": "somebody wrote so"}
    (run_dir / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    _, _, said = answer_of(capsys, "resume", str(run_dir))
    assert "lr        auto → 0.000123: somebody wrote so" in said
    assert json.loads((run_dir / "run.json").read_text())["auto"]["lr"]["lr"] == 0.000123
    with (run_dir / "metrics.csv").open() as file:
        assert 0 < max(float(row["lr"]) for row in csv.DictReader(file)) <= 0.000123


def test_lr_find_answers_in_a_line_and_leaves_a_picture_alone(capsys, tmp_path):
    answer, out, said = answer_of(capsys, "lr-find", *HEAD, "--picture", "curve.png")
    line = out.splitlines()[0]
    assert float(line.split()[0].removeprefix("lr=")) == answer["lr"]
    assert answer["reason"] in line
    assert len(answer["rates"]) == len(answer["losses"]) > 10
    assert answer["lr"] <= answer["largest_stable"]
    assert "▲" in said
    assert "┤" in said
    assert "picture   curve.png" in said
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"curve.png", "cache"}


def test_either_half_can_be_asked_for_alone_and_the_first_phase_is_named(capsys):
    words = [*CONVNET, "freeze=lp_ft", "freeze.head_epochs=1"]
    ranged, _, said = answer_of(capsys, "lr-find", *words, "--method", "range")
    divided, _, _ = answer_of(capsys, "lr-find", *words, "--method", "divide")
    assert "first phase, in which head trains" in said
    assert (bool(ranged["rates"]), bool(ranged["tries"])) == (True, False)
    assert (bool(divided["rates"]), bool(divided["tries"])) == (False, True)


def test_batch_find_tells_sizes_and_leaves_the_step_as_it_is(capsys, tmp_path):
    answer, out, said = answer_of(capsys, "batch-find", *CONVNET)
    assert [size["rows"] for size in answer["sizes"]] == [8, 16, 32]  # of 38 that train
    assert all(size["seconds"] > 0 and size["num_bytes"] > 0 for size in answer["sizes"])
    assert (answer["largest"], answer["paste"]) == (32, [])
    assert "batch_size=16 does" in out
    assert "rows/s" in said
    assert not (tmp_path / "outputs").exists()


def test_what_is_timed_does_not_wait_for_the_end_of_an_epoch():
    events = []

    class Events(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            events.append("epoch")

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            events.append(len(batch["target"].labels))

    composed = compose(ConfigTree(), CONVNET)
    train_steps(prepare(of_size(composed.cfg, 32), decode=False), STEPS, [Events()])
    assert events == [32, 6, 32, "epoch"]  # of 38 rows


@pytest.mark.parametrize("verb", ["lr-find", "doctor"])
@pytest.mark.parametrize(("file", "text"), [("no/curve.png", "no folder no"), ("curve.jpg", "end with .png")])
def test_a_picture_that_cannot_be_written_is_refused(capsys, tmp_path, verb, file, text):
    answer, _, _ = answer_of(capsys, verb, *HEAD, "--picture", file, code=2)
    assert [problem["key"] for problem in answer["problems"]] == ["--picture"]
    assert text in answer["problems"][0]["text"]
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("verb", "words", "key", "text"),
    [
        ("lr-find", ["head=sklearn"], "head", "fitted at once"),
        ("lr-find", ["optimizer=lbfgs", "batch_size=1000"], "optimizer", "lbfgs"),
        ("batch-find", ["optimizer=lbfgs", "batch_size=1000"], "optimizer", "lbfgs"),
        ("lr-find", ["trainer=ddp"], "trainer", "one process"),
        ("lr-find", ["ensemble=seeds"], "tune lr-find", "a sweep"),
        ("lr-find", ['stages=[["seed=1"],["seed=2"]]'], "stages", "one stage"),
        ("lr-find", ["lr=often"], "lr", "auto"),
        ("lr-find", ["lr=1e-3,1e-2"], "lr", "give one"),
        ("lr-find", ["-m", "lr=1e-3,1e-2"], "-m", "tune lr-find looks at one run"),
        ("batch-find", ["lr=1e-3,1e-2", "--multirun"], "-m", "tune batch-find looks at one run"),
        ("doctor", ["lr=1e-3,1e-2", "-m"], "-m", "tune doctor looks at one run"),
        ("rank", ["--backbones", "lenet", "-m"], "-m", "tune rank looks at one run"),
        ("run", ["lr=auto", "optimizer=lbfgs"], "lr", "lr=1 is usual"),
        ("run", ["lr=auto", "trainer=ddp"], "lr", "one process"),
        ("run", ["lr=auto", "ensemble=boosting"], "lr", "boosted"),
        ("run", ["lr=0"], "lr", "must be"),
    ],
)
def test_what_has_no_rate_or_batch_is_refused(capsys, verb, words, key, text):
    answer, _, _ = answer_of(capsys, verb, "data=synthetic", "data.rows=60", *words, code=2)
    assert any(problem["key"] == key and text in problem["text"] for problem in answer["problems"]), answer
