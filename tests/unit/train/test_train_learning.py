from __future__ import annotations

import pytest
import torch

from tune.config.compose import ConfigTree, compose
from tune.errors import ConfigError
from tune.train.groups import parameter_groups
from tune.train.objective import is_better, is_maximized
from tune.train.prepare import prepare
from tune.train.record import masked

TINY = ["data=synthetic", "data.rows=60", "backbone=timm", "backbone.name=resnet18", "backbone.weights=none"]
TINY += ["backbone.input_size=32", "epochs=2", "batch_size=16", "trainer=cpu", "precision=32-true"]


def prepared(*words: str):
    return prepare(compose(ConfigTree(), [*TINY, *words]).cfg)


def test_rates_fall_from_the_head_down_by_layer():
    run = prepared("freeze=mid", "freeze.backbone_lr=0.5", "freeze.decay=0.1", "lr=0.2")
    learner = run.learner
    rates = {group["name"]: group["lr"] for group in learner.groups()}
    trained = [layer for layer in run.network.layers if layer in run.phases[-1].trained]
    assert rates.keys() == set(trained)
    expected = [0.2, *(0.2 * 0.5 * 0.1**i for i in range(len(trained) - 1))]
    assert [rates[layer] for layer in reversed(trained)] == pytest.approx(expected)


def test_every_parameter_that_trains_is_in_one_group_and_no_other_is():
    for freeze in ("deep", "mid", "full"):
        run = prepared(f"freeze={freeze}", "regularize=weight_decay")
        groups = parameter_groups(run.network, {"loss": run.learner.loss}, run.plan, run.phases, 0.1, 0.01)
        listed = [id(parameter) for group in groups for parameter in group["params"]]
        assert len(listed) == len(set(listed))
        assert set(listed) == {id(parameter) for parameter in run.network.parameters() if parameter.requires_grad}
        for group in groups:
            assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] > 0}


def test_a_better_objective_is_larger_but_for_losses_and_ties_and_nan_do_not_win():
    assert is_maximized("val/accuracy")
    assert not is_maximized("val/loss")
    assert is_better("val/auroc", 0.6, 0.5)
    assert is_better("val/loss", 0.4, 0.5)
    assert not is_better("val/auroc", 0.5, 0.5)
    assert not is_better("val/auroc", float("nan"), 0.5)
    assert is_better("val/auroc", 0.1, float("nan"))


def test_secrets_are_masked_wherever_they_stand():
    node = {"logger": {"api_key": "abc", "tags": ["x"], "nested": [{"password": "p"}]}, "seed": 1}
    assert masked(node) == {"logger": {"api_key": "***", "tags": ["x"], "nested": [{"password": "***"}]}, "seed": 1}


def test_f1_of_three_classes_is_refused_as_objective():
    with pytest.raises(ConfigError, match="val/f1_macro"):
        prepared("objective=val/f1")


def test_a_loss_that_ignores_mixed_labels_is_refused(tmp_path, monkeypatch):
    (tmp_path / "blind_loss.py").write_text(
        "import torch\n"
        "class Blind:\n"
        "    def __call__(self, output, batch):\n"
        "        return torch.nn.functional.cross_entropy(output.logits, batch.labels)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cfg = compose(ConfigTree(), [*TINY, "regularize=label_smoothing"]).cfg
    cfg["loss"] = {"_target_": "blind_loss.Blind"}
    with pytest.raises(ConfigError, match=r"label_smoothing.*no effect"):
        prepare(cfg)
    cfg["regularize"] = {}
    prepare(cfg)


def test_the_network_starts_from_the_seed_alone():
    torch.manual_seed(1)
    one = prepared().network.state_dict()
    torch.manual_seed(2)
    other = prepared().network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = prepared("seed=1").network.state_dict()
    assert not torch.equal(one["head.linear.weight"], third["head.linear.weight"])
