"""Every option of the groups that shape a training takes two steps; a new YAML is found by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tune.cli.main import main
from tune.config.across.repeats import ensemble_of
from tune.config.compose import ConfigTree, compose

TREE = ConfigTree()
GROUPS = ("head", "init", "freeze", "augment", "regularize", "loss", "optimizer", "scheduler", "transfer")
NEEDS_WEIGHTS_OF_THE_HUB = {"resnet50", "inception_v3", "convnext_tiny", "vit_small", "mobilenetv3"}
TINY = ["batch_size=8", "cache=never", "logger=csv"]
ONE_DOMAIN = ["data=synthetic", "data.rows=64"]
TWO_DOMAINS = ["data=domains", *(f"data@data.{side}=synthetic" for side in ("source", "target")), "guard=false"]
TWO_DOMAINS += ["data.source.rows=64", "data.target.rows=64", "objective=val/infomax"]
SMALL = ["backbone.input_size=32"]
TWO_STEPS = ["epochs=1", "trainer=cpu", "+trainer.limit_train_batches=2"]
BESIDE = {
    **{f"loss={name}": ["head=mlp"] for name in ("center", "triplet", "contrastive", "supcon", "mixture")},
    **{f"freeze={name}": ["epochs=6"] for name in ("gradual", "lp_ft")},
    "head=multi_task": ["data.tasks={half:{kind:classification},x:{kind:regression}}"],
    "regularize=l2_sp": ["freeze=full"],
    "regularize=swa": ["epochs=4"],
    "optimizer=timm": ["optimizer.name=lion"],
    "optimizer=lbfgs": ["batch_size=64", "epochs=2"],
    "transfer=distill": ["backbone@transfer.teacher=efficientnet_lite0", "transfer.teacher.input_size=32"],
    "transfer=relational": [
        "backbone@transfer.teacher=efficientnet_lite0",
        "transfer.teacher.input_size=32",
        "head=mlp",
    ],
    "backbone=pair": ["backbone.first.input_size=32", "backbone.second.input_size=48"],
    "backbone=alexnet": ["backbone.input_size=67"],
    "backbone=timm": ["backbone.name=resnet18", "backbone.weights=none"],
}
BETWEEN_DOMAINS = {
    "transfer=statistics": [],
    "transfer=reweight": [],
    "transfer=tradaboost": ["data.labelled=2"],
    "transfer=source_free": ["freeze=full"],
    **{f"transfer={name}": ["head=mlp"] for name in ("coral", "mmd", "dann")},
}
FITTED = {"head=sklearn"}  # no step is taken: tests/runs/test_runs_fitted.py
OPTIONS = [f"{group}={option}" for group in GROUPS for option in TREE.options(group)]
BACKBONES = [f"backbone={option}" for option in TREE.options("backbone") if option not in NEEDS_WEIGHTS_OF_THE_HUB]

pytestmark = pytest.mark.filterwarnings("default")  # warnings of other packages go to run.log, as for a user


@pytest.mark.parametrize("option", [option for option in (*OPTIONS, *BACKBONES) if option not in FITTED])
def test_every_option_trains_two_steps(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = SMALL if option != "backbone=pair" else []
    data = [*TWO_DOMAINS, *BETWEEN_DOMAINS[option]] if option in BETWEEN_DOMAINS else ONE_DOMAIN
    code = main(["run", *data, *TINY, *small, *TWO_STEPS, option, *BESIDE.get(option, []), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    answer = json.loads(said.out.splitlines()[-1])
    assert answer["metrics"]["val/infomax" if option == "transfer=source_free" else "val/loss"] > 0
    last = torch.load(Path(answer["run_dir"]) / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] >= 2


SEEN = ("average", "bagging", "boosting", "none", "soup", "stacking")
"""Ensembles that tests/runs puts together too."""


@pytest.mark.parametrize(
    "option",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SEEN)) for name in TREE.options("ensemble")],
)
def test_every_ensemble_puts_members_together(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    node = ensemble_of(compose(TREE, ["data=synthetic", f"ensemble={option}"]).cfg)
    members = ["lr=1e-3,1e-2"] if node.members == 1 else ["ensemble.members=2"]
    members += ["data.split.folds=2"] if node.combine == "stack" else []
    words = ["data=synthetic", "data.rows=90", "epochs=1", "trainer=cpu", *SMALL, *members]
    code = main(["run", "-m", *words, f"ensemble={option}", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    answer = json.loads(said.out.splitlines()[-1])
    assert len(answer["trials"]) >= 2
    together = answer.get("ensembles", [])
    assert [each["how"] for each in together] == [node.combine] * (node.combine != "none")
    assert all(each["metrics"]["test/accuracy"] > 0 for each in together)
