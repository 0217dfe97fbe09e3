"""Exactly what a freeze plan promises changes, tensor by tensor, and a run that breaks the promise is stopped."""

from __future__ import annotations

import pytest
import torch
from pytorch_lightning.callbacks import Checkpoint
from safetensors.torch import load_file

from tune.config.compose import ConfigTree, compose
from tune.train.devices.trainer import build_trainer
from tune.train.experiment import Job, execute
from tune.train.prepare import Prepared, prepare

SMALL = ["data=synthetic", "data.rows=30", "backbone.weights=none", "batch_size=8", "trainer=cpu", "precision=32-true"]
# Rates high enough to move every number of a network that starts at random, low enough to stay finite.
SMALL += ["scheduler=constant", "optimizer=adamw", "lr=1e-3"]
# In-process, so that Lightning's own warnings would count as ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
BACKBONES = ["resnet50", "efficientnet_lite0", pytest.param("convnext_tiny", marks=pytest.mark.slow), "vit_small"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def config_of(tmp_path, *words: str) -> dict:
    composed = compose(ConfigTree(), [*SMALL, f"output={tmp_path}/outputs", *words])
    assert composed.problems == []
    return composed.cfg


def weights_of(prepared: Prepared) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in prepared.network.state_dict().items()}


def promised(depth: str, prepared: Prepared) -> set[str]:
    """Names of the tensors that must change. The last third is counted here anew, in whole layers."""
    layers = [layer for layer in prepared.network.layers if layer != "head"]
    number = {"deep": 0, "mid": round(len(layers) / 3), "full": len(layers)}[depth]
    chosen = layers[len(layers) - number :]
    below = {name for layer in chosen for name in prepared.network.layers[layer]}
    return below | {name for name in prepared.network.state_dict() if name.startswith("head.")}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name].numpy().tobytes() != after[name].numpy().tobytes()}


@pytest.mark.parametrize("depth", ["deep", "mid", "full"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_after_an_epoch_exactly_the_promised_tensors_changed(tmp_path, backbone, depth):
    config = config_of(tmp_path, f"backbone={backbone}", "backbone.input_size=32", f"freeze={depth}", "epochs=1")
    prepared = prepare(config)
    before = weights_of(prepared)
    outcome = execute(Job(config), lambda line: None)
    assert outcome.status == "done", outcome.cause
    after = load_file(outcome.run_dir / "model.safetensors")
    assert changed(before, after) == promised(depth, prepared)


class Watch(Checkpoint):
    """Keeps the weights as they are at the start and after every epoch, in memory: Lightning adds no files then."""

    def __init__(self) -> None:
        self.pictures: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer, pl_module):
        self._take(pl_module)

    def on_train_epoch_end(self, trainer, pl_module):
        self._take(pl_module)

    def _take(self, learner):
        self.pictures.append({name: tensor.detach().clone() for name, tensor in learner.network.state_dict().items()})

    def layers_that_moved(self, layers: dict[str, list[str]]) -> list[set[str]]:
        """In each epoch."""
        pairs = zip(self.pictures, self.pictures[1:], strict=False)
        moved = [changed(before, after) for before, after in pairs]
        return [{layer for layer, names in layers.items() if names and set(names) & epoch} for epoch in moved]


def watched(config: dict) -> tuple[Prepared, list[set[str]]]:
    prepared, watch = prepare(config), Watch()
    trainer = build_trainer(
        config["trainer"], epochs=config["epochs"], precision="32-true", callbacks=[watch], loggers=[], root="."
    )
    trainer.fit(prepared.learner, datamodule=prepared.data)
    return prepared, watch.layers_that_moved(prepared.network.layers)


def test_lp_ft_trains_the_head_alone_and_then_everything(tmp_path):
    config = config_of(tmp_path, "backbone.input_size=32", "freeze=lp_ft", "freeze.head_epochs=2", "epochs=3")
    prepared, moved = watched(config)
    assert moved == [{"head"}, {"head"}, set(prepared.network.layers)]


def test_gradual_unfreezes_by_thirds_from_the_head_down(tmp_path):
    prepared, moved = watched(config_of(tmp_path, "backbone.input_size=32", "freeze=gradual", "epochs=4"))
    layers = [layer for layer in prepared.network.layers if layer != "head"]
    third = len(layers) / 3
    assert moved[0] == {"head"}
    for number in (1, 2, 3):
        trained = [layer for layer in layers if layer in moved[number]]
        assert trained == layers[len(layers) - len(trained) :]
        assert len(trained) == pytest.approx(number * third, abs=1)
    assert moved[3] == set(prepared.network.layers)


def test_norm_train_lets_the_statistics_of_frozen_norms_move_and_nothing_else(tmp_path):
    config = config_of(tmp_path, "backbone.input_size=32", "freeze=deep", "freeze.norm=train", "epochs=1")
    before = weights_of(prepare(config))
    outcome = execute(Job(config), lambda line: None)
    assert outcome.status == "done", outcome.cause
    moved = changed(before, load_file(outcome.run_dir / "model.safetensors"))
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert len(statistics) == 3 * 49
    assert moved == statistics | {"head.linear.weight", "head.linear.bias"}


OWN = '''
import torch
from tune.transfer.interface import Transfer


class Blind(torch.nn.Module):
    """A loss that looks at the features alone, so that the head learns nothing."""

    def forward(self, output, batch):
        return output.features.square().mean() + 0.0 * output.logits.detach().sum()


class Meddler(Transfer):
    """Fine-tuning that writes into whatever tensor it was told to."""

    def __init__(self, tensor: str):
        self.tensor = tensor

    def terms(self, network, batches, progress):
        with torch.no_grad():
            dict(network.state_dict(keep_vars=True))[self.tensor].add_(1e-3)
        return {"loss": self.loss(network(batches["target"].images), batches["target"])}
'''


def with_own(tmp_path, monkeypatch, *words: str, **nodes: dict) -> tuple[str, int, str, list[str]]:
    """Run with nodes that name classes of the user's; status, exit code, cause and what was said."""
    (tmp_path / "meddling.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    said: list[str] = []
    config = {**config_of(tmp_path, "backbone.input_size=32", "epochs=1", *words), **nodes}
    outcome = execute(Job(config), said.append)
    return outcome.status, outcome.exit_code, outcome.cause, said


def test_a_trainable_tensor_that_never_has_a_gradient_stops_the_run(tmp_path, monkeypatch):
    status, code, cause, _ = with_own(tmp_path, monkeypatch, "freeze=full", loss={"_target_": "meddling.Blind"})
    assert (status, code) == ("failed", 1)
    assert "head.linear.weight" in cause
    assert "never had a gradient" in cause


@pytest.mark.parametrize("tensor", ["backbone.model.conv_stem.weight", "backbone.model.bn1.running_mean"])
def test_a_frozen_tensor_or_buffer_that_moves_stops_the_run(tmp_path, monkeypatch, tensor):
    node = {"_target_": "meddling.Meddler", "tensor": tensor}
    status, code, cause, _ = with_own(tmp_path, monkeypatch, "freeze=mid", transfer=node)
    assert (status, code) == ("failed", 1)
    assert cause == f"frozen, but it moved in epoch 1: {tensor}"


def test_a_tensor_that_has_a_gradient_and_does_not_move_is_a_warning_with_its_rate(tmp_path, monkeypatch):
    status, _, _, said = with_own(tmp_path, monkeypatch, "freeze=deep", "lr=1e-30")
    assert status == "done"
    (warning,) = [line for line in said if line.startswith("warning")]
    assert "head.linear.weight" in warning
    assert "1.0e-30" in warning
