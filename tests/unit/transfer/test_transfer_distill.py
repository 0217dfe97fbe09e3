from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from tune.batch import Batch, Output
from tune.errors import ConfigError
from tune.losses.cross_entropy import CrossEntropy
from tune.transfer.distill import Distill, out_of_fold, softened
from tune.transfer.teacher import Teacher, by_row


def drawn(*shape) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


TEACHER, STUDENT = 3 * drawn(6, 4), 2 * drawn(4, 6).T.contiguous()


def soft(logits, temperature) -> list[float]:
    powers = [math.exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def by_hand(teacher, student, temperature) -> list[float]:
    rows = []
    for own, other in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = soft(own, temperature), soft(other, temperature)
        rows.append(temperature**2 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
    return rows


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_term_is_its_formula_row_by_row(temperature):
    expected = torch.tensor(by_hand(TEACHER, STUDENT, temperature), dtype=torch.float64)
    assert_close(softened(TEACHER, STUDENT, temperature), expected)


def test_as_the_temperature_grows_it_becomes_the_distance_of_centred_logits():
    centred = [logits - logits.mean(dim=1, keepdim=True) for logits in (TEACHER, STUDENT)]
    limit = (centred[0] - centred[1]).pow(2).sum(dim=1) / (2 * TEACHER.shape[1])
    near, nearer = ((softened(TEACHER, STUDENT, T) - limit).abs().max() / limit.max() for T in (100.0, 1e4))
    assert nearer < 1e-3
    assert nearer < near / 50


def test_it_is_zero_for_the_same_probabilities_only():
    assert_close(softened(TEACHER, TEACHER + 7.0, 3.0), torch.zeros(6, dtype=torch.float64))
    assert (softened(TEACHER, STUDENT, 3.0) > 0.01).all()


def test_a_teacher_who_is_certain_leaves_finite_numbers():
    certain = torch.tensor([[80.0, 0.0, -300.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    loss = softened(certain, student, 1.0).sum()
    loss.backward()
    assert_close(loss.detach(), torch.tensor(math.log(3)))
    assert torch.isfinite(student.grad).all()


def test_its_gradient_is_that_of_finite_differences():
    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: softened(TEACHER, logits, 4.0), (student,))


class Says(nn.Module):
    """A network that says the same of every batch."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.output = output

    def forward(self, images):
        return self.output


def test_terms_weigh_rows_and_take_what_the_teacher_said_of_each_row():
    method = Distill("run:x", temperature=2.0, alpha=0.3)
    method.loss = CrossEntropy()
    rows = torch.tensor([7, 2, 9, 0, 4, 5])
    method.said = by_row(rows, TEACHER, 10)
    labels, weights = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 3.0])
    batch = Batch(torch.zeros(6, 3, 2, 2), labels, F.one_hot(labels, 4).float(), weights, rows)
    output = Output(torch.zeros(6, 2), torch.zeros(6, 2), STUDENT)
    terms = method.terms(Says(output), {"target": batch}, 0.0)
    soft_rows = by_hand(TEACHER, STUDENT, 2.0)
    wanted = sum(w * value for w, value in zip(weights.tolist(), soft_rows, strict=True)) / sum(weights.tolist())
    assert terms.keys() == {"loss", "distill"}
    assert float(terms["distill"]) == pytest.approx(0.3 * wanted)
    assert_close(terms["loss"], 0.7 * CrossEntropy()(output, batch))


def test_what_was_not_asked_is_no_number():
    said = by_row(torch.tensor([2, 0]), torch.tensor([[1.0], [3.0]]), 3)
    assert said[:, 0].tolist()[::2] == [3.0, 1.0]
    assert said[1].isnan().all()


def test_classes_are_matched_by_name():
    teacher = Teacher("run x", None, None, classes=("cat", "dog", "eel"))  # pyright: ignore[reportArgumentType]
    assert teacher.columns(["eel", "cat", "dog"]) == [2, 0, 1]
    with pytest.raises(ConfigError, match="tells cat, dog, eel; the data have cat, dog, hen"):
        teacher.columns(["cat", "dog", "hen"])


def test_a_row_is_judged_by_a_classifier_that_has_not_seen_its_label():
    draw = np.random.default_rng(0)
    noise, labels = draw.normal(size=(80, 300)), np.arange(80) % 2  # in-sample, 300 numbers tell 80 rows apart
    said = out_of_fold(noise, labels, None, seed=0)
    assert 0.3 < (said.argmax(dim=1).numpy() == labels).mean() < 0.7
    assert said.exp().max() < 0.9  # of the strengths, one that knows that it knows nothing


def test_a_backbone_teaches_what_its_features_tell():
    draw = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = draw.normal(size=(90, 8)) + 4 * np.eye(8)[labels]
    said = out_of_fold(features, labels, None, seed=0)
    assert_close(said.exp().sum(dim=1), torch.ones(90))
    assert (said.argmax(dim=1).numpy() == labels).mean() > 0.95


def test_rows_without_weight_teach_a_backbone_nothing():
    draw = np.random.default_rng(0)
    labels = np.arange(80) % 2
    features = draw.normal(size=(80, 4)) + 3 * labels[:, None]
    wrong = np.arange(80) % 8 < 4  # half of the rows have the label of the other class
    mixed = np.where(wrong, 1 - labels, labels)
    said = out_of_fold(features, mixed, np.where(wrong, 0.0, 1.0), seed=0)
    assert (said.argmax(dim=1).numpy() == labels).mean() > 0.95
