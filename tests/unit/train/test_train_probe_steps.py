"""Steps of the real training that leave no trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from tune.config.compose import ConfigTree, compose
from tune.train.doctor.watch import silent_units, watched
from tune.train.prepare import prepare
from tune.train.probe.steps import train_steps, untouched

pytestmark = pytest.mark.filterwarnings("default")
WORDS = ["data=synthetic", "data.rows=60", "backbone=convnet", "freeze=full", "batch_size=16", "epochs=2"]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(*words: str):
        own = f"cache.dir={tmp_path / 'cache'}"
        return prepare(compose(ConfigTree.find(None), [*WORDS, own, "regularize.dropout=0.2", *words]).cfg)

    return make


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append(float(outputs["loss"]))


def test_weights_statistics_modes_and_draws_are_put_back(prepared):
    run = prepared()
    run.learner.eval()
    state = {name: tensor.clone() for name, tensor in run.learner.state_dict().items()}
    drawn = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    with untouched(run):
        train_steps(run, 3)
        moved = [name for name, tensor in run.learner.state_dict().items() if not torch.equal(tensor, state[name])]
        assert any("running_mean" in name for name in moved)
        assert any(name.endswith("conv.weight") for name in moved)
    assert all(torch.equal(tensor, state[name]) for name, tensor in run.learner.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert np.array_equal(np.random.get_state()[1], drawn[2])
    assert not any(module.training for module in run.learner.modules())
    assert all(p.grad is None for p in run.learner.parameters())


def test_the_same_steps_come_again(prepared):
    run, each = prepared(), []
    for _ in range(2):
        losses = Losses()
        with untouched(run):
            train_steps(run, 5, [losses])
        each.append(losses.seen)
    assert len(each[0]) == 5
    assert each[0] == each[1]


def test_sizes_of_steps_are_those_of_plain_descent(prepared):
    run = prepared("optimizer=sgd", "lr=0.1", "regularize.weight_decay=0.5", "regularize.dropout=0")
    seen = watched(run, steps=1, seconds=0)  # five at least, but no more than asked
    weights = {name: p.detach() for name, p in run.learner.named_parameters()}
    for name, ratios in seen.updates.items():
        if weights[name].ndim > 1:
            # w' - w = -lr (g + 0.5 w): between lr |g| - 0.05 |w| and lr |g| + 0.05 |w|
            bound = 0.1 * seen.gradients[name] / float(weights[name].norm())
            assert abs(ratios[0] - bound) <= 0.05 + 1e-6
            assert seen.pulls[name] == pytest.approx(0.05 / bound, rel=1e-4)
    assert not seen.missing
    assert seen.moved >= {f"network.head.{name}" for name, _ in run.network.head.named_parameters()}


def test_silent_units_are_those_that_no_image_wakes():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Sigmoid())
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(4))
        network[0].bias.copy_(torch.tensor([0.0, -1e3, 0.0, -1e3]))
        network[2].weight.zero_()
        network[2].bias.copy_(torch.tensor([9.0, 0.0]))
    found = silent_units(network, torch.tensor([[1.0, 1.0, -1.0, 1.0], [-1.0, 5.0, 1.0, 2.0]]))
    assert found == {"1": ("ReLU", 0.5), "3": ("Sigmoid", 0.5)}


def test_what_a_frozen_part_says_is_kept_of_the_rows_that_come(prepared):
    run = prepared("freeze=deep")
    rows, kept = run.parts.train.tolist(), run.frozen.rows[0]
    came = run.data.first_rows(2)
    assert len(set(came)) == 32
    assert kept.missing("", rows) == rows
    with untouched(run):
        train_steps(run, 2)
    assert set(kept.missing("", rows)) == set(rows) - set(came)
