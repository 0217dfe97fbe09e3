"""A loss, a head, a backbone, a transfer method and a data reader from outside the package: one file and one YAML each.

Each runs one tiny epoch through the command line's own function, and leaves a trace that shows it was used.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tune
from tune.cli.main import main

TINY = ["data=synthetic", "data.rows=40", "backbone.input_size=32", "epochs=1", "batch_size=16"]

LOSS = '''
import torch
from torch import nn


class Margin(nn.Module):
    """Logits scaled by a factor that is learned with the network."""

    def __init__(self, num_classes: int, scale: float = 1.0) -> None:
        super().__init__()
        assert num_classes == 3
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, output, batch):
        return nn.functional.cross_entropy(self.scale * output.logits, batch.label_probs)
'''
HEAD = '''
from torch import nn
from tune.models.interface import Head


class Cosine(Head):
    """Angles between features and one direction per class."""

    def __init__(self, feature_dim: int, num_classes: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.directions = nn.Linear(feature_dim, num_classes, bias=False)
        self.temperature = temperature

    def forward(self, features):
        embedding = nn.functional.normalize(features, dim=1)
        logits = nn.functional.linear(embedding, nn.functional.normalize(self.directions.weight, dim=1))
        return embedding, logits / self.temperature
'''
BACKBONE = '''
from torch import nn
from tune.models.interface import Backbone, InputSpec


class Small(Backbone):
    """Two convolutions."""

    def __init__(self, width: int = 8, input_size: int = 32) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, width, 3, 2), nn.Conv2d(width, width, 3, 2)
        self.feature_dim = width
        self.input = InputSpec((input_size, input_size), (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.layers = {name: [f"{name}.weight", f"{name}.bias"] for name in ("first", "second")}
        self.weights_source, self.weights_digest = "random weights", ""

    def forward(self, images):
        return self.second(self.first(images).relu()).relu().mean((2, 3))
'''
TRANSFER = '''
from tune.transfer.interface import Transfer


class Confident(Transfer):
    """The loss, and the entropy of what the network says."""

    def __init__(self, strength: float = 0.1) -> None:
        self.strength = strength

    def terms(self, network, batches, progress):
        output = network(batches["target"].images)
        p = output.logits.softmax(dim=1)
        return {"loss": self.loss(output, batches["target"]), "entropy": -self.strength * (p * p.log()).sum(1).mean()}
'''
DATA = '''
import numpy as np
from tune.data.readers.interface import Reader
from tune.data.table import Table


class Noise(Reader):
    """Dark and bright noise."""

    def __init__(self, rows: int = 20) -> None:
        self.rows = rows

    def read(self) -> Table:
        labels = np.arange(self.rows) % 2
        images = np.random.default_rng(0).integers(0, 100, (self.rows, 16, 16, 3)) + 100 * labels[:, None, None, None]
        names = [f"noise {row}" for row in range(self.rows)]
        return Table(names=names, labels=labels, classes=["dark", "bright"], images=images.astype(np.uint8))
'''


@pytest.fixture
def add(tmp_path, monkeypatch):
    """`add(group, source, key)` writes the one file and the one YAML; gives the words that choose and allow them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    modules = []

    def write(group: str, source: str, extra: str = "") -> list[str]:
        module = f"my_{group}"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(source)
        (tmp_path / "conf" / group).mkdir(parents=True)
        name = source.partition("\nclass ")[2].partition("(")[0]
        yaml = f"# Mine, from outside the package.\n_target_: {module}.{name}\n{extra}"
        (tmp_path / "conf" / group / "mine.yaml").write_text(yaml)
        return [f"{group}=mine", "--allow", module]

    yield write
    for module in modules:
        sys.modules.pop(module, None)


def trained(words, capsys) -> Path:
    """Run; gives the run folder."""
    assert main(["run", *words, "--json"]) == 0, capsys.readouterr().err
    return Path(json.loads(capsys.readouterr().out.splitlines()[-1])["run_dir"])


def history(run_dir):
    return list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))


pytestmark = pytest.mark.filterwarnings("default")  # warnings of other packages go to run.log, as for a user


def test_a_loss_whose_own_parameter_learns(add, capsys):
    words = add("loss", LOSS, "scale: 2.0\n")
    run_dir = trained([*TINY, *words], capsys)
    assert re.search(r" loss +1 +from epoch 1 ", (run_dir / "run.log").read_text())  # a row of the audit table
    state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["loss.scale"].item() not in (1.0, 2.0)
    assert not any(name.startswith("loss") for name in load_file(run_dir / "model.safetensors"))


def test_a_head(add, capsys):
    run_dir = trained([*TINY, *add("head", HEAD), "head.temperature=0.2"], capsys)
    assert "head.directions.weight" in load_file(run_dir / "model.safetensors")
    network = tune.load(run_dir, allow=["my_head"]).network
    assert network.head.temperature == 0.2


def test_a_backbone(add, capsys):
    run_dir = trained(
        [*TINY, *add("backbone", BACKBONE), "backbone.width=4", "freeze=mid", "freeze.cut=second"], capsys
    )
    assert load_file(run_dir / "model.safetensors")["backbone.second.weight"].shape == (4, 4, 3, 3)
    assert "first" in (run_dir / "run.log").read_text()
    loaded = tune.load(run_dir, allow=["my_backbone"])
    assert loaded.network.backbone.feature_dim == 4


def test_a_transfer_method(add, capsys):
    run_dir = trained([*TINY, *add("transfer", TRANSFER), "transfer.strength=0.5"], capsys)
    assert 0 < float(history(run_dir)[0]["train/entropy"]) < 0.55  # 0.5 times at most ln 3


def test_a_data_reader_takes_the_shared_keys(add, capsys):
    words = ["backbone.input_size=32", "epochs=1", *add("data", DATA), "data.rows=30", "data.split.test=0.4"]
    run_dir = trained(words, capsys)
    record = json.loads((run_dir / "run.json").read_text())
    assert record["classes"] == ["dark", "bright"]
    assert record["counts"]["test"] == 12


@pytest.mark.parametrize(
    ("group", "source"),
    [("loss", LOSS), ("head", HEAD), ("backbone", BACKBONE), ("transfer", TRANSFER), ("data", DATA)],
)
def test_nothing_is_run_before_it_is_allowed(add, capsys, group, source):
    choice, _, module = add(group, source)
    assert main(["run", "data=synthetic", choice]) == 2
    assert f"--allow {module}" in capsys.readouterr().err
    assert module not in sys.modules


def test_a_key_that_the_signature_lacks_is_refused_with_file_and_line(add, capsys):
    assert main(["run", *TINY, *add("loss", LOSS, "scalle: 2.0\n")]) == 2
    told = capsys.readouterr().err
    assert "loss.scalle" in told
    assert "mine.yaml:3" in told
    assert "my_loss" not in sys.modules
