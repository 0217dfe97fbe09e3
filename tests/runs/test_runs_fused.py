"""Trials that train as one end as each would have ended alone."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tune.config.compose import ConfigTree, expand
from tune.errors import ConfigError
from tune.train.experiment import run_trial
from tune.train.fused import run
from tune.train.fused.group import fuse_key, what_differs
from tune.train.fused.optim import CannotFuse

pytestmark = pytest.mark.filterwarnings("default")  # warnings of other packages go to run.log, as for a user

DRAWN = ["data=synthetic", "data.rows=90", "backbone.input_size=32", "batch_size=16", "epochs=3", "lr=1e-2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def both(tmp_path, monkeypatch, cache):
    """Runs a grid as one and one by one, in this process; gives the pairs of run folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)

    def jobs(where: str, words: tuple[str, ...]) -> list[dict]:
        trials = expand(ConfigTree.find(None), [*DRAWN, *words])
        found = []
        for number, each in enumerate(trials, start=1):
            run_dir = tmp_path / where / each.cfg["name"] / str(number)
            run_dir.mkdir(parents=True)
            record = {"ledger_key": "", "sweep": where, "number": number, "fused": 1}
            asked = {"config": each.cfg, "overrides": each.overrides, "choices": each.choices}
            found.append({**asked, "run_dir": str(run_dir), "record": record})
        return found

    def go(*words: str) -> list[tuple[Path, Path]]:
        together, alone = jobs("together", words), jobs("alone", words)
        assert len(together) > 1
        assert len({fuse_key(job["config"]) for job in together}) == 1
        assert run.run_group(together) == 0
        for job in alone:
            run_trial(job)
        return [(Path(one["run_dir"]), Path(other["run_dir"])) for one, other in zip(together, alone, strict=True)]

    go.jobs = jobs
    return go


def record(run_dir: Path) -> dict:
    return json.loads((run_dir / "run.json").read_text())


def history(run_dir: Path) -> tuple[list[str], np.ndarray]:
    with (run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return list(rows[0]), np.array([[float(value or "nan") for value in row.values()] for row in rows])


def assert_equal(together: Path, alone: Path, tolerance: float = 1e-5) -> None:
    """The same files, weights within a share of the largest of each tensor, the same metrics and decisions."""
    one, other = record(together), record(alone)
    assert one["status"] == other["status"] == "done"
    files, expected = ({path.name for path in folder.iterdir()} for folder in (together, alone))
    # A trial's process writes its log to a file given to it; a group has no monitor.
    assert files == expected - {"checkpoints", "monitor.csv"} | {"run.log"}
    assert one["best_epoch"] == other["best_epoch"]
    assert one["counts"] == other["counts"]
    for name in ("data", "classes", "choices", "overrides", "seed"):
        assert one[name] == other[name]
    assert one["metrics"].keys() == other["metrics"].keys()
    for name, value in other["metrics"].items():
        assert one["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert history(together)[0] == history(alone)[0]
    assert np.allclose(history(together)[1], history(alone)[1], rtol=1e-4, atol=1e-6, equal_nan=True)
    weights, expected = (load_file(folder / "model.safetensors") for folder in (together, alone))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (weights[name] - tensor).abs().max() <= tolerance * tensor.abs().max(), name
    for part in ("val", "test") if other["counts"]["test"] else ("val",):
        assert predictions(together, part).shape == predictions(alone, part).shape
        assert np.allclose(predictions(together, part), predictions(alone, part), atol=2e-5)


def predictions(run_dir: Path, part: str) -> np.ndarray:
    with (run_dir / "predictions" / f"{part}.csv").open() as file:
        return np.array(
            [[float(value) for name, value in row.items() if name[:2] in ("ro", "p_")] for row in csv.DictReader(file)]
        )


LINEAR = [
    "lr=1e-2,1e-1 regularize.l1=0,1e-3 regularize.l2=0,1e-2",
    "seed=0,1 data.bootstrap=null,0,3",
    "seed=0,1 regularize.dropout=0,0.3,0.5",
    "scheduler=plateau scheduler.patience=0 optimizer=sgd lr=1e-3,3 epochs=5",
    "optimizer=adam optimizer.betas=[0.9,0.999],[0.8,0.99] regularize.weight_decay=0,0.1",
    "augment=flip cache.views=2 lr=1e-3,1e-2",
    "augment=flip epochs=2,4",
    "objective=val/loss data.split.test=0 lr=1e-3,1e-2",
    "epoch_steps=6 augment=flip lr=1e-3,1e-2",
    "epoch_steps=2 epochs=5,9 regularize.early_stopping=0,2",
]
MORE = [
    "regularize.label_smoothing=0,0.1 loss=cross_entropy,focal,weighted",
    "optimizer=sgd,momentum,nesterov lr=1e-2,1e-1",
    "lr=1e-3,1e-2 regularize.weight_decay=0,0.1",
    "scheduler=constant,cosine epochs=2,4",
    "seed=0,1,2 lr=1e-2,3e-2",
    "optimizer=rmsprop +optimizer.alpha=0.9,0.99 +optimizer.momentum=0,0.9",
    "optimizer=adagrad lr=1e-2,1e-1 regularize.weight_decay=0,0.1",
    "regularize.dropout=0.3,0 epochs=2,4",
    "lr=1e-3,1e-2,1e-1 regularize.weight_decay=0,0.1",
    "scheduler=constant,cosine,one_cycle,warmup_cosine epochs=2,4",
    "epoch_steps=2 epochs=5,9 seed=0,1 regularize.early_stopping=0,2",
    "regularize.early_stopping=0,1,2 lr=1e-2,1 epochs=6 optimizer=sgd",
]


@pytest.mark.parametrize("words", [*LINEAR, *(pytest.param(words, marks=pytest.mark.slow) for words in MORE)])
def test_linear_heads_end_as_they_would_alone(both, words):
    for together, alone in both(*words.split()):
        assert_equal(together, alone)


MLP = ["head=mlp", "head.hidden=[32]", "regularize.dropout=0,0.3", "seed=0,1", "lr=1e-3"]


def test_mlp_heads_are_the_same_after_20_steps(both):
    for together, alone in both(*MLP, "epochs=5"):  # 4 steps an epoch
        assert_equal(together, alone)


@pytest.mark.slow
def test_mlp_heads_are_as_good_in_the_end(both):
    for word in ("optimizer=momentum", "optimizer=adamw"):
        pairs = both(*MLP, word, "epochs=20", f"name={word.partition('=')[2]}")
        for together, alone in pairs:
            one, other = (record(run_dir)["metrics"]["test/accuracy"] for run_dir in (together, alone))
            assert abs(one - other) <= 0.005


def test_a_fused_head_that_starts_at_zero_is_audited_when_all_rows_have_come(both):
    for together, alone in both("head=mlp", "head.hidden=[8]", "init=zeros_last", "epoch_steps=1", "lr=1e-3,1e-2"):
        assert_equal(together, alone)


def test_one_that_diverges_costs_itself_alone(both):
    (good, good_alone), (bad, bad_alone) = both("lr=1e-2,1e30", "optimizer=sgd", "regularize.l2=1e-3")
    assert_equal(good, good_alone)
    assert record(bad)["status"] == record(bad_alone)["status"] == "diverged"
    assert record(bad)["exit_code"] == record(bad_alone)["exit_code"] == 5
    # Alone it tells the layer and the rows too.
    assert record(bad_alone)["cause"].startswith(record(bad)["cause"].partition(")")[0] + ", batch ")
    assert (bad / "metrics.csv").exists() == (bad_alone / "metrics.csv").exists()


def test_heads_for_which_there_is_no_memory_wait_their_turn(both, monkeypatch):
    monkeypatch.setattr(run, "_at_once", lambda trials, prepared: 2)
    for together, alone in both("lr=1e-3,3e-3,1e-2"):
        assert_equal(together, alone)


LOSSES = """
class Pure:
    def __call__(self, output, batch):
        return -(batch.label_probs * output.logits.log_softmax(dim=1)).sum(dim=1).mean()

class Looking(Pure):
    def __call__(self, output, batch):
        return super().__call__(output, batch) * (1.0 if output.logits.max() < 5 else 0.5)
"""


@pytest.fixture
def own_losses(tmp_path, monkeypatch):
    (tmp_path / "fused_losses.py").write_text(LOSSES)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("pure", "looking"):
        option = tmp_path / "conf" / "loss" / f"{name}.yaml"
        option.parent.mkdir(parents=True, exist_ok=True)
        option.write_text(f"# One of the user's own.\n_target_: fused_losses.{name.title()}\n")
    yield
    sys.modules.pop("fused_losses", None)


def test_a_loss_of_the_users_own_is_fused_too(both, own_losses):
    for together, alone in both("loss=pure", "lr=1e-3,1e-2"):
        assert_equal(together, alone)


def test_what_vmap_refuses_is_said_before_anything_is_written(both, own_losses):
    jobs = both.jobs("together", ("loss=looking", "lr=1e-3,1e-2"))
    with pytest.raises(CannotFuse, match="vmap refuses it"):
        run.run_group(jobs)
    assert not any(list(Path(job["run_dir"]).iterdir()) for job in jobs)


HEADS = """
from torch import nn
from tune.models.heads.dropout import KeyedDropout
from tune.models.interface import Head

class Maybe(Head):
    def __init__(self, feature_dim, num_classes, dropout):
        super().__init__()
        self.dropout = KeyedDropout(dropout) if dropout else nn.Identity()
        self.linear = nn.Linear(feature_dim, num_classes)

    def forward(self, features):
        embedding = self.dropout(features)
        return embedding, self.linear(embedding)

class Torch(Maybe):
    def __init__(self, feature_dim, num_classes, dropout):
        super().__init__(feature_dim, num_classes, 0)
        self.dropout = nn.Dropout(dropout)
"""


@pytest.mark.parametrize("name", ["maybe", "torch"])
@pytest.mark.parametrize("dropout", ["0,0.3", "0.3,0.4"])
def test_heads_that_are_not_built_alike_are_not_fused(both, tmp_path, monkeypatch, name, dropout):
    (tmp_path / "fused_heads.py").write_text(HEADS)
    monkeypatch.syspath_prepend(tmp_path)
    option = tmp_path / "conf" / "head" / f"{name}.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(f"# One of the user's own.\n_target_: fused_heads.{name.title()}\n")
    jobs = both.jobs("together", (f"head={name}", f"regularize.dropout={dropout}"))
    try:
        if name == "maybe" and dropout == "0.3,0.4":
            assert run.run_group(jobs) == 0  # alike, and by keyed masks
        else:
            with pytest.raises(CannotFuse, match=r"not built alike|vmap refuses"):
                run.run_group(jobs)
    finally:
        sys.modules.pop("fused_heads", None)


def test_seeds_whose_images_are_not_kept_are_not_fused(both):
    jobs = both.jobs("together", ("cache=never", "seed=0,1"))
    with pytest.raises(CannotFuse, match="not kept"):
        run.run_group(jobs)


def test_without_a_cache_the_frozen_part_runs_once_an_epoch_for_all(both):
    for together, alone in both("cache=never", "lr=1e-3,1e-2"):
        assert_equal(together, alone)


def test_a_config_that_does_not_fit_is_left_to_its_trial(both):
    jobs = both.jobs("together", ("optimizer=nesterov", "optimizer.momentum=0.9,0"))
    with pytest.raises(ConfigError, match="nesterov"):
        run.run_group(jobs)
    assert not any(list(Path(job["run_dir"]).iterdir()) for job in jobs)


ALONE = [
    "freeze=mid",
    "augment=mixup",
    "optimizer=timm optimizer.name=lamb",
    "trainer=ddp",
    "+trainer.gradient_clip_val=1",
    "sweep.fuse=false",
    "precision=bf16-true",
    "logger=tensorboard",
]


@pytest.mark.parametrize("words", ALONE)
def test_what_trains_alone(words):
    (each,) = expand(ConfigTree.find(None), [*DRAWN, *words.split()])
    assert fuse_key(each.cfg) is None


APART = ["batch_size=16,32", "data.split.seed=0,1", "head=linear,mlp", "augment=flip,none", "optimizer=adam,adamw"]


@pytest.mark.parametrize("words", [*APART, "augment=flip seed=0,1", "backbone.weights=none seed=0,1"])
def test_what_trains_in_groups_of_its_own(words):
    one, other = expand(ConfigTree.find(None), [*DRAWN, *words.split()])
    assert fuse_key(one.cfg) != fuse_key(other.cfg)


def test_what_tells_groups_apart():
    groups = [[["lr=1", "batch_size=16"], ["lr=2", "batch_size=16"]], [["lr=1", "batch_size=32"]]]
    assert what_differs(groups) == "batch_size 16, 32"
    assert what_differs(groups[:1]) == ""
