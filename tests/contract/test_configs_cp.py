"""`tune cp`: a copy means the same runs as what it was made from, over it or written out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tune.cli.main import main
from tune.config.compose import ConfigTree, compose, expand

MINE = Path("conf/experiment/mine.yaml")
WORDS = [
    ("quickstart", []),
    ("elpv/finetune", ["lr=3e-4", "head=mlp", "optimizer.betas.0=0.8", "freeze=mid", "freeze.cut=blocks.5"]),
    ("elpv/distill", ["backbone@transfer.teacher=efficientnet_lite1", "transfer.teacher.input_size=96"]),
    ("quickstart", ["backbone=pair", "backbone@backbone.first=efficientnet_lite1", "+head.options=x"]),
    ("quickstart", ["transfer=distill", "backbone@transfer.teacher=efficientnet_lite2"]),
    ("domains/mnist_to_digits", ["transfer=coral", "objective=val/accuracy", "data@data.target=elpv"]),
    ("elpv/chain", ["epochs=2", "data.split.val=0.1"]),
    ("sweep/lr_batch", ["lr=0.5", "sweep.jobs=2"]),
    ("sweep/data_size", ["lr=0.5", "data.split.fraction=0.3"]),
    ("elpv/stacking", ["name='1e-3'", "expected.value=0.5"]),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def runs(*words):
    """Every run that words stand for, as plain dicts without names."""
    found = compose(ConfigTree(), list(words))
    some = expand(ConfigTree(), list(words)) if found.is_sweep else [found]
    return [plain(each.cfg) for each in some]


def plain(cfg):
    stages = [plain(stage["config"]) for stage in cfg["stages"]]
    return {**{key: value for key, value in cfg.items() if key != "name"}, "stages": stages}


@pytest.mark.parametrize("full", [[], ["--full"]], ids=["overlay", "full"])
@pytest.mark.parametrize(("base", "words"), WORDS, ids=[" ".join([base, *words]) for base, words in WORDS])
def test_a_copy_is_the_same_runs(base, words, full, capsys):
    assert main(["cp", base, "mine", *words, *full]) == 0
    assert "tune run +experiment=mine" in capsys.readouterr().out
    assert runs("experiment=mine") == runs(f"experiment={base}", *words)
    if "+head.options=x" not in words:
        assert main(["validate", str(MINE)]) == 0


def test_an_overlay_holds_what_differs_and_a_full_copy_everything(capsys):
    assert main(["cp", "quickstart", "mine", "lr=3e-4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer == {"file": str(MINE.absolute()), "experiment": "mine", "full": False}
    assert yaml.safe_load(MINE.read_text()) == {"defaults": ["/experiment/quickstart", "_self_"], "lr": 3e-4}
    assert main(["cp", "quickstart", "whole", "--full"]) == 0
    whole = yaml.safe_load(Path("conf/experiment/whole.yaml").read_text())
    groups = {next(iter(entry)).removeprefix("override /") for entry in whole["defaults"]}
    assert groups == set(ConfigTree().groups())
    assert set(whole) >= {"lr", "seed", "sweep", "data", "optimizer"}


def test_an_interpolation_stays_one(capsys):
    MINE.parent.mkdir(parents=True)
    MINE.write_text("# Mine.\ndefaults: [override /data: synthetic]\nlr: 0.5\nregularize:\n  dropout: ${lr}\n")
    assert main(["cp", "mine", "other", "--full"]) == 0
    assert runs("experiment=other", "lr=0.25")[0]["regularize"]["dropout"] == 0.25
    assert main(["cat", "other"]) == main(["cat", "other", "--resolve"]) == 0
    shown = capsys.readouterr().out
    assert "dropout: ${lr}" in shown
    assert "dropout: 0.5" in shown


def test_a_file_that_is_there_is_left_alone_without_force(capsys):
    assert main(["cp", "quickstart", "mine"]) == 0
    before = MINE.read_text()
    assert main(["cp", "quickstart", "mine", "lr=1"]) == 2
    assert "--force" in capsys.readouterr().err
    assert MINE.read_text() == before
    assert main(["cp", "quickstart", "mine", "lr=1", "--force"]) == 0
    assert runs("experiment=mine") == runs("experiment=quickstart", "lr=1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["quikstart", "mine"], "Did you mean quickstart?"),
        (["quickstart", "mine", "lr=abc=3"], "cannot be read"),
        (["quickstart", "mine", "~expected"], "takes a key away"),
        (["quickstart", "mine", "experiment=elpv/mid"], "builds on the one that you name first"),
        (["quickstart", "mine", "lr=1,2"], "use -m"),
        (["quickstart", "loose.yaml"], "lies in no config folder"),
    ],
)
def test_what_cannot_be_copied_is_refused_and_nothing_is_written(words, said, capsys):
    assert main(["cp", *words]) == 2
    assert said in capsys.readouterr().err
    assert not MINE.exists()


def test_a_copy_elsewhere_that_would_not_compose_there_is_not_written(tmp_path, capsys):
    MINE.parent.mkdir(parents=True)
    MINE.write_text("# Mine.\ndefaults: [override /data: synthetic]\nlr: 0.5\n")
    there = tmp_path / "there" / "conf" / "experiment" / "copy.yaml"
    assert main(["cp", "mine", str(there)]) == 2
    capsys.readouterr()
    assert not there.exists()
    assert main(["cp", "mine", str(there), "--full"]) == 0
    assert main(["validate", str(there)]) == 0
