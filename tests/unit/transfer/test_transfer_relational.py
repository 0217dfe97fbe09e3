from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tune.batch import Batch, Output
from tune.errors import ConfigError
from tune.losses.cross_entropy import CrossEntropy
from tune.transfer.relational import Relational, between_angles, between_distances
from tune.transfer.teacher import by_row

TERMS = [between_distances, between_angles]


def drawn(rows: int, dims: int) -> torch.Tensor:
    return torch.randn(rows, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(rows + dims))


STUDENT, TEACHER = drawn(6, 3), drawn(6, 5)


def huber(x: float) -> float:
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def distances_by_hand(student, teacher) -> float:
    def table(rows):
        found = {(i, j): math.dist(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j}
        mean = sum(found.values()) / len(found)
        return {pair: distance / mean for pair, distance in found.items()}

    ours, theirs = table(student.tolist()), table(teacher.tolist())
    return sum(huber(ours[pair] - theirs[pair]) for pair in ours) / len(ours)


def angles_by_hand(student, teacher) -> float:
    def cosine(rows, i, j, k):
        to_i = [a - b for a, b in zip(rows[i], rows[j], strict=True)]
        to_k = [a - b for a, b in zip(rows[k], rows[j], strict=True)]
        return sum(a * b for a, b in zip(to_i, to_k, strict=True)) / math.hypot(*to_i) / math.hypot(*to_k)

    ours, theirs, n = student.tolist(), teacher.tolist(), len(student)
    triplets = [(i, j, k) for i in range(n) for j in range(n) for k in range(n) if len({i, j, k}) == 3]
    return sum(huber(cosine(ours, *each) - cosine(theirs, *each)) for each in triplets) / len(triplets)


def test_distances_are_their_formula():
    assert float(between_distances(STUDENT, TEACHER)) == pytest.approx(distances_by_hand(STUDENT, TEACHER))


def test_angles_are_their_formula():
    assert float(between_angles(STUDENT, TEACHER)) == pytest.approx(angles_by_hand(STUDENT, TEACHER))


def test_far_distances_count_linearly():
    near, far = torch.zeros(6, 1, dtype=torch.float64), torch.zeros(6, 1, dtype=torch.float64)
    near[:, 0], far[0, 0] = torch.arange(6), 5.0  # the first row is 3 mean distances from the second, and was 0.4
    assert float(between_distances(near, far)) == pytest.approx(distances_by_hand(near, far))


@pytest.mark.parametrize("term", TERMS)
def test_neither_changes_when_the_embedding_is_turned_scaled_or_moved(term):
    turn = torch.linalg.qr(drawn(3, 3)).Q
    before = term(STUDENT, TEACHER)
    assert before > 0.01
    for changed in (STUDENT @ turn, 1e-3 * STUDENT, 250 * STUDENT, STUDENT + 5, 7 * STUDENT @ turn - 2):
        assert_close(term(changed, TEACHER), before)
    assert_close(term(STUDENT, 30 * TEACHER @ torch.linalg.qr(drawn(5, 5)).Q + 1), before)


@pytest.mark.parametrize("term", TERMS)
def test_both_see_one_axis_stretched(term):
    stretched = STUDENT * torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64)
    assert abs(float(term(stretched, TEACHER) - term(STUDENT, TEACHER))) > 1e-3
    assert term(stretched, STUDENT) > 0.01


@pytest.mark.parametrize("term", TERMS)
def test_a_student_who_sees_what_the_teacher_sees_is_right_in_any_number_of_dimensions(term):
    copy = F.pad(5 * STUDENT, (2, 4))  # the same points in a larger space
    assert float(term(copy, STUDENT)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("term", TERMS)
def test_gradients_are_those_of_finite_differences(term):
    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: term(rows, TEACHER), (student,))


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_rows_that_coincide_or_are_too_few_leave_finite_gradients(term, rows):
    for student in (torch.zeros(rows, 3), torch.cat([drawn(1, 3), drawn(rows, 3)[:-1], drawn(1, 3)]).float()):
        embedding = student[:rows].clone().requires_grad_()
        loss = term(embedding, drawn(rows, 4).float())
        loss.backward()
        assert torch.isfinite(loss)
        assert embedding.grad is not None
        assert torch.isfinite(embedding.grad).all()
        assert embedding.grad.abs().max() < 100


def test_angles_at_rows_that_coincide_are_left_out():
    student, teacher = drawn(5, 3), drawn(5, 4)
    twice = torch.cat([student, student[:1]])
    told = float(between_angles(twice, torch.cat([teacher, drawn(1, 4)])))
    theirs = torch.cat([teacher, drawn(1, 4)]).tolist()
    kept, ours = [], twice.tolist()
    for i, j, k in [(i, j, k) for i in range(6) for j in range(6) for k in range(6) if len({i, j, k}) == 3]:
        if {i, j} != {0, 5} and {j, k} != {0, 5}:
            cosines = []
            for rows in (ours, theirs):
                legs = [[a - b for a, b in zip(rows[end], rows[j], strict=True)] for end in (i, k)]
                dot = sum(a * b for a, b in zip(*legs, strict=True))
                cosines.append(dot / math.hypot(*legs[0]) / math.hypot(*legs[1]))
            kept.append(huber(cosines[0] - cosines[1]))
    assert told == pytest.approx(sum(kept) / len(kept))


def test_terms_stand_beside_the_loss_at_their_strengths_and_one_of_none_is_left_out():
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    batch = Batch(torch.zeros(6, 3, 2, 2), labels, F.one_hot(labels, 2).float(), torch.ones(6), torch.arange(6).flip(0))
    output = Output(torch.zeros(6, 2), STUDENT.float(), torch.randn(6, 2))
    method = Relational("run:x", distance=3.0, angle=5.0)
    method.loss, method.said = CrossEntropy(), by_row(torch.arange(6), TEACHER.float(), 8)
    terms = method.terms(lambda images: output, {"target": batch}, 0.0)
    assert_close(terms["loss"], CrossEntropy()(output, batch))
    flipped = TEACHER.flip(0)
    assert float(terms["distance"]) == pytest.approx(3 * distances_by_hand(STUDENT, flipped), rel=1e-5)
    assert float(terms["angle"]) == pytest.approx(5 * angles_by_hand(STUDENT, flipped), rel=1e-5)
    method.angle = 0.0
    assert method.terms(lambda images: output, {"target": batch}, 0.0).keys() == {"loss", "distance"}


def test_two_strengths_of_nothing_are_refused():
    with pytest.raises(ConfigError, match="both 0"):
        Relational("run:x", distance=0.0, angle=0.0)
