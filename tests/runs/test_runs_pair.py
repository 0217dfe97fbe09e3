"""A pair of backbones goes through a whole run: cache, fused sweep, and a network that can be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tune
from tune.cli.main import main

pytestmark = pytest.mark.filterwarnings("default")

PAIR = [
    "data=synthetic",
    "data.rows=60",
    "backbone=pair",
    "backbone@backbone.first=lenet",
    "backbone@backbone.second=timm",
    "backbone.second.name=resnet10t",
    "backbone.second.weights=none",
    "backbone.second.input_size=64",
    "epochs=2",
    "trainer=cpu",
]


def test_a_pair_trains_from_the_cache_and_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["run", *PAIR, "cache=require", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < answer["metrics"]["test/accuracy"] <= 1
    loaded = tune.load(answer["run_dir"])
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    assert torch.allclose(loaded.predict([image]).sum(), torch.ones(()))
    assert loaded.transform.size == (64, 64)


@pytest.mark.slow
def test_heads_on_a_pair_train_as_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["run", "-m", *PAIR, "lr=1e-3,1e-2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["fused_groups"] == 1
    assert len(list(Path(answer["sweep_dir"]).glob("*/model.safetensors"))) == 2
