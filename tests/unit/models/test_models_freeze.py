from __future__ import annotations

import pytest
import torch
from torch import nn

from tune.errors import ConfigError
from tune.models.backbones.timm_model import TimmBackbone
from tune.models.freeze import FreezePlan, Phase, apply_phase, audit, is_norm_buffer, phase_at, set_modes
from tune.models.heads.linear import LinearHead
from tune.models.network import Network

RESNET = [
    "stem",
    "layer1.0",
    "layer1.1",
    "layer2.0",
    "layer2.1",
    "layer3.0",
    "layer3.1",
    "layer4.0",
    "layer4.1",
    "head",
]
DEEP = {"head": "trained", "*": "frozen"}
FULL = {"*": "trained"}


def trained(plan: FreezePlan, layers=RESNET, epochs: int = 10) -> list[str]:
    (phase,) = plan.phases(layers, epochs)
    return [layer for layer in layers if layer in phase.trained]


def starts(plan: FreezePlan, layers=RESNET, epochs: int = 10) -> list[tuple[int, int]]:
    """Start of each phase and how many layers train in it."""
    return [(phase.start_epoch, len(phase.trained)) for phase in plan.phases(layers, epochs)]


def told(plan: FreezePlan, layers=RESNET, epochs: int = 10) -> str:
    with pytest.raises(ConfigError) as raised:
        plan.phases(layers, epochs)
    return str(raised.value)


def test_rules_decide_in_their_order():
    assert trained(FreezePlan(DEEP)) == ["head"]
    assert trained(FreezePlan(FULL)) == RESNET
    assert trained(FreezePlan({"layer4.1": "frozen", "layer4": "trained", "head": "trained", "*": "frozen"})) == [
        "layer4.0",
        "head",
    ]
    assert trained(FreezePlan({"layer?.1": "trained", "*": "frozen"}))[:2] == ["layer1.1", "layer2.1"]


def test_a_rule_for_layer1_does_not_take_layer10():
    layers = ["layer1", "layer10", "head"]
    assert trained(FreezePlan({"layer1": "frozen", "*": "trained"}), layers) == ["layer10", "head"]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"layer5": "trained", "*": "frozen"}, "no layer is called 'layer5'. Did you mean 'layer"),
        ({"layr4": "trained", "*": "frozen"}, "Did you mean 'layer4'"),
        ({"*": "frozen", "head": "trained"}, "'head' decides nothing: '*', which stands before it"),
        ({"head": "trained"}, "no rule decides stem, layer1.0"),
        ({"*": "frozen"}, "nothing trains"),
        ({"*": "trianed"}, "neither trained nor frozen"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, text):
    assert text in told(FreezePlan(rules))


def test_all_wrong_rules_are_told_at_once():
    message = told(FreezePlan({"a": "trained", "b": "frozen", "*": "trained"}))
    assert "'a'" in message
    assert "'b'" in message


@pytest.mark.parametrize("num_layers", [5, 13, 17, 18, 20, 41, 60])
def test_a_third_is_a_third_of_the_layers_whatever_the_family(num_layers):
    layers = [*(f"block{i}" for i in range(num_layers)), "head"]
    count = len(trained(FreezePlan(cut=0.3333), layers)) - 1
    assert abs(count - num_layers / 3) <= 0.5
    assert trained(FreezePlan(cut=0.3333), layers) == layers[-count - 1 :]


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (2, ["layer4.0", "layer4.1", "head"]),
        ("layer4.1", ["layer4.1", "head"]),
        ("layer4", ["layer4.0", "layer4.1", "head"]),
        ([r"layer4\.\d", "stem"], ["stem", "layer4.0", "layer4.1", "head"]),
        (0.01, ["layer4.1", "head"]),
        (9, RESNET),
    ],
)
def test_a_cut_is_a_share_a_number_a_name_or_expressions(cut, expected):
    assert trained(FreezePlan(cut=cut)) == expected


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        (0, "the backbone has 9"),
        (10, "the backbone has 9"),
        (1.5, "no share between 0 and 1"),
        (True, "no share"),
        ("layer9", "no layer is called 'layer9'"),
        ("head", "no layer is called 'head'"),
        (["layer4"], "no layer is called 'layer4'"),
        (["("], "no regular expression"),
        ([], "an empty list"),
    ],
)
def test_a_cut_that_makes_no_sense_is_refused(cut, text):
    assert text in told(FreezePlan(cut=cut))


def test_rules_and_a_cut_exclude_each_other():
    assert "no effect beside freeze.rules" in told(FreezePlan(DEEP, cut=0.5))


def test_lp_ft_trains_the_head_and_then_everything():
    first, second = FreezePlan(head_epochs=3).phases(RESNET, 10)
    assert first == Phase(0, frozenset({"head"}))
    assert second == Phase(3, frozenset(RESNET))


def test_gradual_opens_the_backbone_by_thirds_from_the_head_down():
    phases = FreezePlan(head_epochs=1, parts=3).phases(RESNET, 10)
    assert [phase.start_epoch for phase in phases] == [0, 1, 2, 3]
    assert [set(RESNET) - phase.trained for phase in phases] == [
        set(RESNET[:9]), set(RESNET[:6]), set(RESNET[:3]), set(),
    ]  # fmt: skip


@pytest.mark.parametrize("num_layers", [3, 4, 5, 17])
@pytest.mark.parametrize("parts", [2, 3])
def test_each_part_joins_something_and_the_last_leaves_nothing(num_layers, parts):
    layers = [*(f"block{i}" for i in range(num_layers)), "head"]
    sizes = [size for _, size in starts(FreezePlan(head_epochs=2, parts=parts, part_epochs=2), layers)]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == num_layers + 1


def test_gradual_opens_only_what_the_cut_chooses():
    assert starts(FreezePlan(cut=4, head_epochs=2, parts=2, part_epochs=3)) == [(0, 1), (2, 3), (5, 5)]


def test_the_phase_of_an_epoch_is_the_last_that_has_begun():
    phases = FreezePlan(head_epochs=3).phases(RESNET, 10)
    assert [phase_at(phases, epoch).start_epoch for epoch in (0, 2, 3, 9)] == [0, 0, 3, 3]


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (FreezePlan(DEEP, backbone_lr=0.1), "freeze.backbone_lr: has no effect"),
        (FreezePlan(DEEP, decay=0.9), "freeze.decay: has no effect"),
        (FreezePlan(cut=1, decay=0.9), "only the topmost layer, layer4.1"),
        (FreezePlan(FULL, norm="train"), "freeze.norm: train has no effect"),
        (FreezePlan(DEEP, head_epochs=2), "freeze.head_epochs: has no effect"),
        (FreezePlan(FULL, parts=2), "freeze.parts: has no effect without"),
        (FreezePlan(FULL, part_epochs=2), "freeze.part_epochs: has no effect"),
        (FreezePlan(head_epochs=2, part_epochs=2), "freeze.part_epochs: has no effect"),
        (FreezePlan(head_epochs=10), "epochs: the last layers would join in epoch 11 of 10"),
        (FreezePlan(head_epochs=1, parts=3, part_epochs=5), "epoch 12 of 10"),
        (FreezePlan(cut=2, head_epochs=1, parts=3), "3 parts of 2 layers"),
        (FreezePlan({"head": "frozen", "*": "trained"}, head_epochs=1), "the head is frozen"),
    ],
)
def test_a_key_without_effect_is_refused(plan, text):
    assert text in told(plan)


def test_rates_fall_from_the_head_down():
    factors = FreezePlan(FULL, backbone_lr=0.1, decay=0.5).lr_factors(["a", "b", "c", "head"])
    assert factors == {"head": 1.0, "c": 0.1, "b": 0.05, "a": 0.025}


NETWORKS = ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_atto"]


@pytest.fixture(params=NETWORKS)
def network(request) -> Network:
    backbone = TimmBackbone(request.param, "none", drop_path=0.1, input_size=64)
    return Network(backbone, LinearHead(backbone.feature_dim, 3, dropout=0.1))


def enter(network: Network, phase: Phase, norm: str = "eval") -> None:
    apply_phase(network, phase, norm)
    network.train()
    set_modes(network, phase, norm)


def train_two_steps(network: Network) -> set[str]:
    """Names of the tensors that moved."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.randn(4, 3, 64, 64)).logits.log_softmax(1)[:, 0].sum().neg().backward()
        optimizer.step()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(
    "plan", [FreezePlan(DEEP), FreezePlan(cut=0.3333), FreezePlan(FULL)], ids=["deep", "mid", "full"]
)
def test_a_step_moves_what_trains_and_leaves_every_frozen_tensor_and_buffer_to_the_bit(network, plan):
    (phase,) = plan.phases(list(network.layers), 1)
    enter(network, phase)
    promised = {name for layer in phase.trained for name in network.layers[layer]}
    moved = train_two_steps(network)
    assert moved <= promised
    # Zero-initialised branches and near-zero gradients may stay for two steps, but most of what trains moves.
    assert len(moved) > 0.8 * len(promised & network.state_dict().keys())


def test_after_lp_ft_opens_everything_moves(network):
    for phase in FreezePlan(head_epochs=1).phases(list(network.layers), 2):
        enter(network, phase)
    assert {name.split(".")[0] for name in train_two_steps(network)} == {"backbone", "head"}


def test_frozen_parts_are_in_eval_mode_as_a_whole_and_trained_ones_in_train_mode(network):
    (phase,) = FreezePlan(cut=0.3333).phases(list(network.layers), 1)
    enter(network, phase)
    trains = {name: layer in phase.trained for layer, names in network.layers.items() for name in names}
    for name, module in network.named_modules():
        if owned := [trains[tensor] for tensor in trains if tensor.startswith(f"{name}.")]:
            assert module.training == any(owned), name
            if not any(owned):
                assert not any(child.training for child in module.modules())
            if all(owned):
                assert all(child.training for child in module.modules())


def test_set_modes_can_be_called_again_after_train(network):
    (phase,) = FreezePlan(DEEP).phases(list(network.layers), 1)
    enter(network, phase)
    network.eval()
    network.train()
    set_modes(network, phase, "eval")
    assert not any(module.training for module in network.backbone.modules())
    assert network.head.training


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_norm_train_lets_the_statistics_move_and_nothing_else(name):
    network = Network(TimmBackbone(name, "none", input_size=64), LinearHead(512 if name == "resnet18" else 1280, 3))
    (phase,) = FreezePlan(DEEP, norm="train").phases(list(network.layers), 1)
    enter(network, phase, "train")
    moved = train_two_steps(network)
    statistics = {key for key in network.state_dict() if is_norm_buffer(network, key)}
    assert statistics <= moved
    assert moved == statistics | {"head.linear.weight", "head.linear.bias"}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
def test_norm_train_without_norms_that_keep_statistics_is_refused(name):
    backbone = TimmBackbone(name, "none", input_size=64)
    network = Network(backbone, LinearHead(backbone.feature_dim, 3))
    (phase,) = FreezePlan(DEEP, norm="train").phases(list(network.layers), 1)
    with pytest.raises(ConfigError, match="no frozen layer has a norm that keeps statistics"):
        apply_phase(network, phase, "train")


def test_norm_train_is_accepted_in_the_later_phases_that_freeze_less():
    network = Network(TimmBackbone("resnet18", "none"), LinearHead(512, 3))
    for phase in FreezePlan(head_epochs=1, norm="train").phases(list(network.layers), 2):
        apply_phase(network, phase, "train")
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_is_norm_buffer_knows_statistics_from_other_tensors():
    module = nn.ModuleDict({"norm": nn.BatchNorm1d(2), "layer": nn.LayerNorm(2)})
    module.register_buffer("running_mean", torch.zeros(1))
    names = [name for name in module.state_dict() if is_norm_buffer(module, name)]
    assert names == ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]


def test_the_audit_lists_each_layer_with_its_numbers():
    network = Network(TimmBackbone("resnet18", "none"), LinearHead(512, 3))
    plan = FreezePlan(cut=2, head_epochs=3)
    rows = audit(network, plan, plan.phases(list(network.layers), 10))
    assert [row.layer for row in rows] == RESNET
    assert sum(row.parameters for row in rows) == sum(parameter.numel() for parameter in network.parameters())
    assert [row.trained_from for row in rows] == [None] * 7 + [3, 3, 0]
    assert [row.norm for row in rows] == ["eval"] * 9 + ["none"]
    assert sum(row.num_norms for row in rows) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def test_the_audit_says_train_for_norms_of_layers_that_train():
    network = Network(TimmBackbone("resnet18", "none"), LinearHead(512, 3))
    plan = FreezePlan(FULL)
    assert {row.norm for row in audit(network, plan, plan.phases(list(network.layers), 1))} == {"train", "none"}
