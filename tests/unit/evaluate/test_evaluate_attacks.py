from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from tune.config.schema import Evaluate
from tune.evaluate.robustness.attacks import bounds, fgsm, pgd
from tune.evaluate.robustness.gradients import Teacher, WhiteBox
from tune.evaluate.robustness.measure import Attack, attack_rows, some_rows
from tune.models.backbones.convnet import ConvNet
from tune.models.heads.linear import LinearHead
from tune.models.interface import Backbone, InputSpec
from tune.models.network import Network

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Flat(Backbone):
    """Pixels as features, so that a linear head makes a linear network."""

    def __init__(self, size=4):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.feature_dim, self.input = 3 * size * size, InputSpec((size, size), MEAN, STD, "bilinear")
        self.layers, self.weights_source, self.weights_digest = {"scale": ["scale"]}, "random weights", ""

    def forward(self, images):
        return (images * self.scale).flatten(1)


def convnet(seed, **keys):
    torch.manual_seed(seed)
    return ConvNet(depth=4, width=4, input_size=16, **keys).eval()


def network(seed, classes=3):
    backbone = convnet(seed)
    return Network(backbone, LinearHead(backbone.feature_dim, classes)).eval()


def images(rows, size=16, seed=0):
    """8-bit images, with their darkest and brightest pixels."""
    drawn = torch.randint(0, 256, (rows, 3, size, size), generator=torch.Generator().manual_seed(seed))
    drawn[0, 0, 0, :2] = torch.tensor([0, 255])
    return drawn.float() / 255


def starts(clean, seed=1):
    return torch.rand(clean.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def assert_image_within(attacked, clean, eps):
    """In exact arithmetic."""
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    pairs = zip(attacked.flatten().tolist(), clean.flatten().tolist(), strict=True)
    assert max(abs(Fraction(a) - Fraction(c)) for a, c in pairs) <= Fraction(eps)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("unit", [0.25, 1, 8, 37.3, 255])
def test_what_attacks_give_is_an_image_within_eps_of_the_clean_one(seed, unit):
    white, eps, clean = WhiteBox(network(seed)), unit / 255, images(2, seed=seed)
    teacher, labels = Teacher(convnet(seed + 10), set(), CPU), torch.tensor([0, 2])
    start = starts(clean, seed)
    for raised in (white.loss(labels), teacher.distance(clean)):
        assert_image_within(fgsm(raised, clean, eps).pixels, clean, eps)
        attacked = pgd(raised, clean, eps, steps=3, step_size=eps, start=start).pixels
        assert_image_within(attacked, clean, eps)
        assert not torch.equal(attacked, clean)


def test_bounds_are_the_widest_that_float32_can_say():
    clean, eps = torch.rand(1, 3, 40, 40), 8 / 255
    lower, upper = bounds(clean, eps)
    assert bool((lower <= clean).all() and (clean <= upper).all())
    higher = upper.nextafter(torch.tensor(2.0))
    beyond = [
        Fraction(h) - Fraction(c) > Fraction(eps) or u == 1
        for h, u, c in zip(*(each.flatten().tolist() for each in (higher, upper, clean)), strict=True)
    ]
    assert all(beyond)


def linear(classes=3):
    backbone = Flat()
    head = LinearHead(backbone.feature_dim, classes)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    weight, bias = (parameter.detach().double().numpy() for parameter in head.parameters())
    return WhiteBox(Network(backbone, head).eval()), weight, bias


def test_fgsm_on_a_linear_network_is_the_closed_form():
    white, weight, bias = linear()
    clean, labels, eps = images(5, 4), [0, 1, 2, 0, 1], 8 / 255
    attacked = fgsm(white.loss(torch.tensor(labels)), clean, eps).pixels
    for row, label in enumerate(labels):
        pixels = clean[row].double().numpy()
        mean, std = (np.array(each)[:, None, None] for each in (MEAN, STD))
        logits = weight @ ((pixels - mean) / std).ravel() + bias
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        gradient = weight.T @ (p - np.eye(3)[label])  # that of cross-entropy; std is positive
        expected = np.clip(pixels + eps * np.sign(gradient).reshape(pixels.shape), 0, 1)
        assert attacked[row].numpy() == pytest.approx(expected, abs=1e-6)


def test_pgd_on_two_classes_of_a_linear_network_ends_in_the_worst_corner():
    white, weight, _ = linear(classes=2)
    clean, eps = images(4, 4), 8 / 255
    labels = torch.tensor([0, 1, 0, 1])
    attacked = pgd(white.loss(labels), clean, eps, steps=5, step_size=eps / 2, start=starts(clean)).pixels
    for row, label in enumerate(labels.tolist()):
        away = np.sign(weight[1 - label] - weight[label]).reshape(3, 4, 4)
        assert attacked[row].numpy() == pytest.approx(np.clip(clean[row].numpy() + eps * away, 0, 1), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_pgd_is_at_least_as_strong_as_fgsm(seed):
    white, clean, eps = WhiteBox(network(seed)), images(16, seed=seed), 16 / 255
    labels = white.logits(clean).argmax(dim=1)
    raised = white.loss(labels)
    once = fgsm(raised, clean, eps).pixels
    often = pgd(raised, clean, eps, steps=20, step_size=eps / 8, start=starts(clean)).pixels
    assert raised(clean).mean() < raised(once).mean() < raised(often).mean()
    fooled = [int((white.logits(pixels).argmax(dim=1) != labels).sum()) for pixels in (once, often)]
    assert fooled[1] >= fooled[0]


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_without_a_gradient_a_row_stays_and_is_called_blind(value):
    clean = images(3)
    weight = torch.tensor([1.0, value, 1.0])[:, None, None, None]

    def raised(pixels):
        return (pixels * weight).flatten(1).sum(dim=1)

    attacked = fgsm(raised, clean, 8 / 255)
    assert attacked.is_blind.tolist() == [False, True, False]
    assert torch.equal(attacked.pixels[1], clean[1])
    again = pgd(raised, clean, 8 / 255, steps=3, step_size=1 / 255, start=torch.zeros_like(clean))
    assert again.is_blind.tolist() == [False, True, False]
    assert torch.equal(again.pixels[1], clean[1])


def test_a_network_that_is_sure_of_itself_still_has_a_gradient():
    white, _, _ = linear()
    head = white.network.head
    with torch.no_grad():
        for parameter in head.parameters():
            parameter *= 1.5
    clean = images(8, 4)
    logits = white.logits(clean)
    assert bool((logits.softmax(dim=1).max(dim=1).values == 1).any())  # in float32
    assert not fgsm(white.loss(logits.argmax(dim=1)), clean, 1 / 255).is_blind.any()


def test_the_teacher_is_seen_where_the_students_freezing_ends():
    backbone, pixels = convnet(0), images(3)
    trained = {name for layer in ("conv3", "conv4") for name in backbone.layers[layer]}
    teacher = Teacher(convnet(0), trained, CPU)
    normalised = (pixels - 0.5) / 0.5
    maps = backbone.conv2(backbone.conv1(normalised)).detach()
    assert teacher.where == "behind conv2"
    assert torch.allclose(teacher.features(pixels).sort(dim=1).values, maps.flatten(1).sort(dim=1).values, atol=1e-5)
    moved = pixels.flip(0)
    other = backbone.conv2(backbone.conv1((moved - 0.5) / 0.5)).detach()
    expected = [((a - b) ** 2).mean().item() for a, b in zip(other, maps, strict=True)]
    assert teacher.distance(pixels)(moved).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("all_trains", [False, True])
def test_where_all_or_nothing_of_the_backbone_is_frozen_its_output_is_what_the_teacher_sees(all_trains):
    backbone, pixels = convnet(0), images(3)
    teacher = Teacher(convnet(0), {name for name, _ in backbone.named_parameters()} if all_trains else set(), CPU)
    assert teacher.where == "at the backbone's output"
    assert torch.allclose(teacher.features(pixels), backbone((pixels - 0.5) / 0.5), atol=1e-5)


def test_a_teachers_attack_knows_nothing_of_the_student():
    clean, options = images(4), Evaluate(attack="teacher", steps=3)
    teacher = Teacher(convnet(0), set(), CPU)
    given = []
    for seed, labels in ((1, [0, 1, 2, 0]), (2, [2, 2, 2, 2])):
        student = network(seed)
        student.head.register_forward_pre_hook(lambda *_: pytest.fail("the head was asked"))
        attack = Attack(options, WhiteBox(student), teacher, seed=0)
        given.append(attack(clean, torch.tensor(labels), [0, 1, 2, 3], 8 / 255).pixels)
    assert torch.equal(*given)
    assert bool((teacher.distance(clean)(given[0]) > 0).all())


def test_a_random_start_belongs_to_the_row_and_the_seed():
    clean, labels = images(4), torch.tensor([0, 1, 2, 0])
    white = WhiteBox(network(0))

    def attacked(seed, rows):
        attack = Attack(Evaluate(attack="pgd", steps=1), white, None, seed)
        return attack(clean[rows], labels[rows], rows, 8 / 255).pixels

    whole = attacked(0, [0, 1, 2, 3])
    assert torch.allclose(whole[2:], attacked(0, [2, 3]), atol=1e-6)
    assert not torch.allclose(whole, attacked(1, [0, 1, 2, 3]), atol=1e-3)


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_success_is_counted_over_the_rows_that_were_right(threshold):
    white, _, _ = linear(classes=2)
    pixels = images(40, size=4, seed=2)
    labels = np.random.default_rng(0).integers(0, 2, 40)
    attack = Attack(Evaluate(attack="fgsm", eps=[1.0, 4.0]), white, None, seed=0)
    tally = attack_rows(attack, np.arange(40), labels, lambda row: pixels[row], threshold, CPU)

    def guess(images):
        p = white.logits(images).softmax(dim=1)[:, 1]
        return (p > (threshold or 0.5)).long().tolist()

    for eps in (1.0, 4.0):
        changed = fgsm(white.loss(torch.from_numpy(labels)), pixels, eps / 255).pixels
        before, after = guess(pixels), guess(changed)
        right = [row for row in range(40) if before[row] == labels[row]]
        fooled = [row for row in right if after[row] != labels[row]]
        assert tally.metrics[f"attack_success@{eps:g}"] == pytest.approx(len(fooled) / len(right))
        share = sum(after[row] == labels[row] for row in range(40)) / 40
        assert tally.metrics[f"attack_accuracy@{eps:g}"] == pytest.approx(share)
        assert tally.as_json()["clean_accuracy"] == pytest.approx(len(right) / 40)
        low, high = tally.intervals[f"attack_success@{eps:g}"]
        assert low <= len(fooled) / len(right) <= high
    assert 0 < tally.fooled[1.0] < tally.fooled[4.0] < tally.right


def test_where_no_row_was_right_there_is_no_success_rate():
    white, pixels = WhiteBox(network(0)), images(4)
    wrong = (white.logits(pixels).argmax(dim=1).numpy() + 1) % 3
    attack = Attack(Evaluate(attack="fgsm", eps=[1.0]), white, None, seed=0)
    tally = attack_rows(attack, np.arange(4), wrong, lambda row: pixels[row], None, CPU)
    assert list(tally.metrics) == ["attack_accuracy@1"]


def test_some_rows_hold_each_class_in_proportion_and_smaller_numbers_are_part_of_larger_ones():
    labels = np.repeat([0, 1, 2], [120, 60, 20])
    rows = np.arange(0, 200)
    before: set[int] = set()
    for wanted in (10, 40, 100, 200):
        picked = some_rows(rows, labels, wanted)
        assert len(picked) == wanted
        assert list(picked) == sorted(set(picked.tolist()))
        assert before <= set(picked.tolist())
        assert np.bincount(labels[picked], minlength=3) == pytest.approx(np.array([0.6, 0.3, 0.1]) * wanted, abs=1)
        before = set(picked.tolist())
    assert some_rows(rows, labels, None) is rows
    assert set(some_rows(rows, labels, 10).tolist()) != set(range(10))
