"""`tune validate --deep`: what only the network tells, found without weights and without data."""

from __future__ import annotations

import json

import pytest
import torch

from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.train.doctor.shapes import Fitting, without_weights

CONVNET = ["data=synthetic", "backbone=convnet", "backbone.input_size=32", "freeze=full"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def config(*words):
    return compose(ConfigTree(), [*CONVNET, *words]).cfg


def told(capsys, *words):
    """key → text of what is refused, and nothing without --deep."""
    assert main(["validate", *words, "--json"]) == 0
    capsys.readouterr()
    assert main(["validate", *words, "--deep", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    return {problem["key"]: problem for problem in answer["problems"]}


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        (["freeze=mid", "freeze.cut=layer9"], "freeze.cut", "no layer is called 'layer9'"),
        (["loss=triplet"], "loss", "nothing in front of it trains"),
        (["freeze.backbone_lr=0.2"], "freeze.backbone_lr", "no layer of the backbone trains"),
        (["regularize.l2_sp=0.1"], "regularize.l2_sp", "the backbone is not trained"),
        (["scheduler=step", "scheduler.every=20"], "scheduler.every", "has no effect"),
        (["objective=val/map"], "objective", "loss=triplet"),
        (["optimizer=lbfgs", "regularize.weight_decay=0.1"], "regularize.weight_decay", "no place in lbfgs"),
        (["augment.elastic_knots=9"], "augment.elastic_knots", "has no effect without"),
        (["freeze=gradual", "epochs=2"], "epochs", "would join in epoch"),
    ],
)
def test_what_only_the_network_tells_is_refused_with_its_place(capsys, words, key, said):
    found = told(capsys, "smoke/deep", *words)
    assert said in found[key]["text"]
    assert "[experiment=smoke/deep]" in found[key]["text"]
    assert found[key]["where"] == ("command line" if any(key in word for word in words) or key == "loss" else "")


def test_experiments_pass_without_their_weights_and_data(capsys, monkeypatch):
    """Distillation, two backbones, two domains, a chain, several tasks and fitted heads; photographs are not read."""
    monkeypatch.setattr(torch.hub, "download_url_to_file", None)
    names = ["elpv/distill", "elpv/chain", "elpv/multi_task", "elpv/stacking", "domains/mnist_to_digits"]
    assert main(["validate", *names, "--deep"]) == 0
    assert capsys.readouterr().out == "".join(f"ok  experiment={name}\n" for name in names)


def test_a_network_of_the_hub_is_looked_at_without_being_downloaded():
    assert Fitting().problems(compose(ConfigTree(), ["data=synthetic", "backbone=convnext_tiny"]).cfg) == []


def test_a_backbone_has_no_numbers_and_is_built_once():
    fitting = Fitting()
    assert fitting.problems(config()) == fitting.problems(config("lr=1", "head=mlp")) == []
    (backbone,) = fitting._known.values()
    assert isinstance(backbone, torch.nn.Module)
    assert {parameter.device.type for parameter in backbone.parameters()} == {"meta"}


def test_weights_are_left_out_wherever_a_backbone_stands_and_nowhere_else():
    cfg = compose(ConfigTree(), ["backbone=pair", "head=multi_task", "head.weights=uncertainty"]).cfg
    node, has_weights = without_weights(cfg["backbone"])
    assert (node["first"]["weights"], node["second"]["weights"], has_weights) == ("none", "none", True)
    assert without_weights(cfg["head"]) == (cfg["head"], False)
    assert without_weights(config()["backbone"])[1] is False
    hub = {"_target_": "tune.models.backbones.timm_model.TimmBackbone", "name": "resnet18"}
    assert without_weights(hub) == ({**hub, "weights": "none"}, True)


HEAD = """
import torch
from tune.models.interface import Head

class Mine(Head):
    def __init__(self, feature_dim: int, num_classes: int, inputs: int | None = None, outputs: int | None = None):
        super().__init__()
        self.linear = torch.nn.Linear(inputs or feature_dim, outputs or num_classes)

    def forward(self, features):
        return features, self.linear(features)
"""
LOSS = """
class Rows:
    def __call__(self, output, batch):
        return (output.logits ** 2).sum(dim=1)

class Nan:
    def __call__(self, output, batch):
        return output.logits.sum() * float("nan")
"""


@pytest.mark.parametrize(
    ("group", "node", "said"),
    [
        ("head", {"_target_": "my_parts_a.Mine", "inputs": 7}, "does not take 32 features"),
        ("head", {"_target_": "my_parts_a.Mine", "outputs": 5}, "logits of shape (4, 5)"),
        ("loss", {"_target_": "my_parts_b.Rows"}, "of shape (4,)"),
        ("loss", {"_target_": "my_parts_b.Nan"}, "is nan"),
    ],
)
def test_a_head_or_loss_of_ones_own_that_does_not_fit_is_told(tmp_path, group, node, said):
    (tmp_path / "my_parts_a.py").write_text(HEAD)
    (tmp_path / "my_parts_b.py").write_text(LOSS)
    (problem,) = Fitting().problems({**config(), group: node})
    assert problem.key == group
    assert said in problem.text
    if group == "head":
        assert Fitting().problems({**config(), group: {"_target_": node["_target_"]}}) == []
