"""What the monitor writes against slow loops over the same steps; where a planted NaN is found."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from tune.config.compose import ConfigTree, compose
from tune.errors import Diverged
from tune.train.callbacks.finite import FiniteLoss
from tune.train.callbacks.monitor import Monitor, middle
from tune.train.callbacks.worries import LayerStep, of_loss, of_penalties, of_step
from tune.train.prepare import prepare
from tune.train.probe.steps import train_steps

TINY = ["data=synthetic", "data.rows=60", "batch_size=16", "trainer=cpu", "precision=32-true", "epochs=2"]
CONVNET = [*TINY, "backbone=convnet", "backbone.norm=none", "freeze=full", "optimizer=momentum", "lr=0.01"]


def prepared(*words: str):
    return prepare(compose(ConfigTree(), list(words)).cfg)


class Twin(Callback):
    """Notes weights and gradients around every step, and what every rectifier gave in it."""

    def on_train_start(self, trainer, pl_module):
        self.steps = []
        for name, module in pl_module.network.named_modules():
            if isinstance(module, torch.nn.ReLU):
                module.register_forward_hook(lambda _, __, output, name=name: self.note(name, output))

    def note(self, name, output):
        self.outputs.setdefault(name, []).append(output.detach().clone())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = {name: tensor.detach().clone() for name, tensor in pl_module.named_parameters()}
        self.outputs = {}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.grads = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        after = {name: tensor.detach().clone() for name, tensor in pl_module.named_parameters()}
        self.steps.append((self.before, self.grads, after, self.outputs))


def length(tensors) -> float:
    return math.sqrt(sum(float(number) ** 2 for tensor in tensors for number in tensor.flatten().tolist()))


def dead_by_hand(output) -> float:
    channels = [channel.flatten().tolist() for channel in output.transpose(0, 1)]
    return sum(all(value == 0 for value in channel) for channel in channels) / len(channels)


def written(folder):
    return list(csv.DictReader((folder / "monitor.csv").read_text().splitlines()))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("freeze", ["full", "mid"])
def test_the_numbers_of_the_middle_step_are_those_of_slow_loops(freeze, tmp_path):
    run, twin, said = prepared(*CONVNET, f"freeze={freeze}"), Twin(), []
    assert (run.frozen.encoders[0] is None) == (freeze == "full"), "mid runs what was cut out of the backbone"
    train_steps(run, 6, [Monitor(tmp_path, said.append), twin])
    assert said == []
    rows = written(tmp_path)
    trained = [layer for layer in run.network.layers if layer in run.phases[0].trained]
    assert [(row["epoch"], row["step"], row["layer"]) for row in rows] == [
        (str(epoch), str(step), layer) for epoch, step in ((1, 2), (2, 5)) for layer in trained
    ]
    for row in rows:
        before, grads, after, outputs = twin.steps[int(row["step"]) - 1]
        names = [f"network.{name}" for name in run.network.layers[row["layer"]] if f"network.{name}" in grads]
        weight = length(before[name] for name in names)
        assert float(row["weight_norm"]) == pytest.approx(weight, rel=1e-4)
        assert float(row["gradient_norm"]) == pytest.approx(length(grads[name] for name in names), rel=1e-4)
        change = length(after[name] - before[name] for name in names)
        assert float(row["update_ratio"]) == pytest.approx(change / weight, rel=1e-3)
        if row["layer"] == "head":
            assert row["dead_units"] == ""
        else:
            (output,) = outputs[f"backbone.{row['layer']}.act"]
            assert float(row["dead_units"]) == pytest.approx(dead_by_hand(output), abs=1e-5)


@pytest.mark.filterwarnings("default")
def test_dead_units_are_found_behind_a_module_that_several_layers_share(tmp_path):
    run, said = prepared(*TINY, "backbone=lenet", "backbone.activation=relu", "freeze=full", "lr=1e-4"), []
    layers, parameters = run.network.layers, dict(run.network.named_parameters())
    chosen = next(layer for layer in layers if layer.startswith("c5"))
    with torch.no_grad():
        for name in layers[chosen]:
            if name.endswith("bias"):
                parameters[name][: len(parameters[name]) * 3 // 4] = -1e3
    train_steps(run, 3, [Monitor(tmp_path, said.append)])
    shares = {row["layer"]: float(row["dead_units"]) for row in written(tmp_path) if row["dead_units"]}
    assert shares.pop(chosen) >= 0.75
    assert max(shares.values()) < 0.5


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_the_middle_step_ends_with_the_batch_that_is_named(accumulate):
    for batches in range(1, 12):
        steps = [list(range(batches))[start : start + accumulate] for start in range(0, batches, accumulate)]
        assert middle(batches, accumulate) == steps[(len(steps) - 1) // 2][-1]


MOMENTUM = torch.optim.SGD([torch.zeros(1)], lr=0.01, momentum=0.9)
HEALTHY = [LayerStep("conv1", 5.0, 0.1, 1e-3, 0.1, 512), LayerStep("head", 0.5, 1.0, 0.3, None)]


@pytest.mark.parametrize(
    ("layer", "epoch", "said"),
    [
        (HEALTHY[0], 0, []),
        (LayerStep("conv1", 5.0, 0.1, 1e-3, 0.6, 512), 3, ["dead"]),
        (LayerStep("conv1", 5.0, 0.1, 1e-3, 0.6, 16), 3, []),  # too few values to call a unit dead
        (LayerStep("conv1", 5.0, 1e-5, 1e-3, 0.0, 512), 0, ["vanishing"]),
        (LayerStep("conv1", 5.0, 1e5, 1e-3, 0.0, 512), 0, ["exploding"]),
        (LayerStep("conv1", 5.0, 0.1, 0.2, 0.0, 512), 2, ["large update"]),
        (LayerStep("conv1", 5.0, 1e-5, 0.2, 0.6, 512), 2, ["large update", "dead", "vanishing"]),
    ],
)
def test_worries_are_told_by_kind_with_what_to_do(layer, epoch, said):
    learner = prepared(*CONVNET).learner
    found = list(of_step([layer, HEALTHY[1]], learner, MOMENTUM, epoch))
    assert [kind for kind, _ in found] == said
    assert all(f"epoch {epoch + 1}" in line and "Try " in line and "=" in line for _, line in found)


def test_a_rate_that_moves_nothing_is_told_in_the_first_epoch_alone():
    learner = prepared(*CONVNET).learner
    still = [LayerStep("conv1", 5.0, 0.1, 1e-8, None), LayerStep("head", 0.5, 1.0, 1e-6, None)]
    assert [kind for kind, _ in of_step(still, learner, MOMENTUM, 0)] == ["small update"]
    assert "Try lr=1e+01" in next(of_step(still, learner, MOMENTUM, 0))[1], "0.01 times 1e-3 over 1e-6"
    assert not list(of_step(still, learner, MOMENTUM, 5))  # schedules end near a rate of 0


def test_a_step_that_throws_the_weights_out_is_told_alone_with_a_rate_that_would_not():
    learner = prepared(*CONVNET).learner
    layers = [LayerStep("conv1", 5.0, 1e-9, 4e6, 1.0, 512), LayerStep("conv2", 5.0, 1.0, 8e6, 1.0, 512), HEALTHY[1]]
    ((kind, line),) = of_step(layers, learner, MOMENTUM, 0)
    assert kind == "thrown"
    assert "layer conv2 by 8e+06 " in line
    advised = float(line.rpartition("lr=")[2])
    assert 0 < advised / learner.base_lr * 8e6 < 0.1


@pytest.mark.parametrize("order", [(math.inf, math.inf, 0.1), (math.nan, math.inf, 0.1), (0.1, math.nan, math.inf)])
def test_of_layers_that_no_number_holds_the_first_is_named(order):
    learner = prepared(*CONVNET).learner
    layers = [LayerStep(f"conv{i}", 5.0, 1.0, update, 0.0) for i, update in enumerate(order, 1)]
    ((_, line),) = of_step(layers, learner, MOMENTUM, 0)
    first = next(i for i, update in enumerate(order, 1) if not math.isfinite(update))
    assert f"layer conv{first} beyond" in line


@pytest.mark.parametrize(("now", "is_told"), [(90.0, False), (300.0, True), (math.inf, True), (math.nan, True)])
def test_a_loss_far_above_the_first_is_told_with_a_lower_rate(now, is_told):
    learner = prepared(*CONVNET, "lr=1e9").learner
    found = list(of_loss(0.7, now, learner, MOMENTUM, 3))
    assert [kind for kind, _ in found] == ["large loss"] * is_told
    assert all(line.endswith("(epoch 4). Try lr=0.01") for _, line in found), "what SGD with momentum is used with"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("words", [["freeze=full", "lr=1e9"], ["freeze=deep", "lr=1e20"]])
def test_behind_thrown_weights_nothing_else_is_blamed(words, tmp_path):
    run, said = prepared(*CONVNET, "optimizer=sgd", *words), []
    train_steps(run, 8, [Monitor(tmp_path, said.append)])
    assert said
    assert all("changed layer" in line or "the loss of a batch" in line for line in said)
    assert len(said) <= 2


@pytest.mark.filterwarnings("default")
def test_what_was_seen_of_an_epoch_that_does_not_end_is_written(tmp_path):
    run = prepared(*CONVNET)
    cause = ended(run, Monitor(tmp_path, lambda line: None), Plant(3, spoil_backbone))
    assert "(epoch 1, step 3," in cause
    assert {(row["epoch"], row["step"]) for row in written(tmp_path)} == {("1", "2")}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("strength", "drowns"), [(1e-4, False), (30.0, True)])
def test_a_penalty_that_pulls_harder_than_the_loss_is_told_once(strength, drowns, tmp_path):
    run, said, twin = prepared(*CONVNET, f"regularize.l2={strength}", "lr=1e-5"), [], Twin()
    train_steps(run, 6, [Monitor(tmp_path, said.append), twin])
    before, grads, _, _ = twin.steps[1]
    wide = [name for name in grads if before[name].ndim > 1]
    own = {name: strength * before[name] if name in wide else torch.zeros(()) for name in grads}
    times = length(own.values()) / length(grads[name] - own[name] for name in grads)
    assert (times > 3) == drowns
    lines = [line for line in said if "drowns" in line]
    assert len(lines) == drowns
    if drowns:
        assert f"{times:.1f} times" in lines[0]
        assert not list(of_penalties({"l2": 1.0}, run.learner))


class Plant(Callback):
    """Calls `act(learner, batch)` at the start of one step, counted from 1; counts the steps that ended."""

    def __init__(self, step, act):
        self.step, self.act, self.ended, self.started = step, act, 0, 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.started += 1
        if self.started == self.step:
            self.act(pl_module, batch["target"])

    def on_train_batch_end(self, *arguments):
        self.ended += 1


def ended(run, *callbacks) -> str:
    with pytest.raises(Diverged) as error:
        train_steps(run, 6, [FiniteLoss(), *callbacks])
    assert error.value.exit_code == 5
    return str(error.value)


def put(tensor, value, rows=slice(None)):
    with torch.no_grad():
        tensor[rows] = value


@pytest.mark.filterwarnings("default")
def test_a_weight_that_is_not_finite_ends_its_step_and_names_layer_and_module():
    run = prepared(*CONVNET)
    plant = Plant(5, lambda learner, _: put(learner.network.get_submodule("backbone.conv3.conv").weight, math.nan))
    cause = ended(run, plant)
    assert plant.ended == 4
    assert "loss is no longer a finite number (epoch 2, step 5, batch 2 with " in cause
    assert "it begins in layer conv3, in what backbone.conv3.conv gives" in cause
    assert "Try lr=0.001" in cause


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("freeze", ["full", "mid"])
def test_rows_that_are_not_finite_are_named_and_no_others(freeze):
    run, names = prepared(*CONVNET, f"freeze={freeze}"), []

    def spoil(learner, batch):
        put(batch.images, math.inf, slice(3, 5))
        names.extend(run.table.names[row] for row in batch.index[3:5].tolist())

    cause = ended(run, Plant(4, spoil))
    assert "(epoch 2, step 4, batch 1)" in cause
    assert f" of {names[0]}, {names[1]} " in cause
    assert "lr=" not in cause


class _Spoiled(torch.autograd.Function):
    """What comes in; its gradient is NaN."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * math.nan


def spoil_gradient(module):
    module.register_forward_hook(lambda module, inputs, output: _Spoiled.apply(output))


def spoil_backbone(learner, batch):
    spoil_gradient(learner.network.backbone)


@pytest.mark.filterwarnings("default")
def test_a_gradient_that_is_not_finite_ends_its_step_with_the_weights_as_they_were():
    run, twin = prepared(*CONVNET), Twin()
    cause = ended(run, twin, Plant(3, spoil_backbone))
    assert "the gradient is no longer a finite number (epoch 1, step 3, batch 3 with " in cause
    assert "it begins in layer conv4" in cause, "the head behind it has a finite one"
    left = dict(run.learner.named_parameters())
    assert all(torch.equal(left[name], tensor) for name, tensor in twin.before.items())


@pytest.mark.filterwarnings("default")
def test_one_of_the_accumulated_batches_is_the_one_named():
    run = prepared(*CONVNET, "batch_size=8", "trainer.accumulate_grad_batches=2")
    cause = ended(run, Plant(4, spoil_backbone))
    assert "(epoch 1, step 2, batch 4 with " in cause


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "words",
    [["regularize.sam=0.05"], ["optimizer=lbfgs", "lr=1", "batch_size=64", "freeze=deep"]],
    ids=["sam", "lbfgs"],
)
def test_steps_of_several_passes_end_too(words):
    run = prepared(*CONVNET, *words)
    plant = Plant(2, lambda learner, _: spoil_gradient(learner.network.head.linear))
    cause = ended(run, plant)
    assert "step 2, " in cause
    assert "begins in layer head" in cause
    assert plant.ended == 1


@pytest.mark.filterwarnings("default")
def test_a_finite_gradient_whose_length_overflows_goes_on():
    run, plant = prepared(*CONVNET, "lr=1e-30"), Plant(1, lambda *_: None)
    for parameter in run.network.parameters():
        parameter.register_hook(lambda grad: torch.full_like(grad, 1e25))
    assert not torch.full((10,), 1e25).norm().isfinite()
    train_steps(run, 3, [FiniteLoss(), plant])
    assert plant.ended == 3


class Elsewhere(Callback):
    """Lets the callback in front of it look as it does on a device."""

    def __init__(self, finite):
        self.finite = finite

    def on_train_epoch_start(self, trainer, pl_module):
        self.finite.is_cpu = False


@pytest.mark.filterwarnings("default")
def test_on_a_device_the_run_ends_one_step_later_and_names_the_step():
    run, finite, plant = prepared(*CONVNET), FiniteLoss(), Plant(4, spoil_backbone)
    with pytest.raises(Diverged, match=r"epoch 2, step 4, batch 1"):
        train_steps(run, 6, [finite, Elsewhere(finite), plant])
    assert plant.ended == 4, "it ended while the fifth was being ended"
