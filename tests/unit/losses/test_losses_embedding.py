from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tune.batch import Batch, Output
from tune.errors import ConfigError
from tune.losses.center import Center
from tune.losses.contrastive import Contrastive
from tune.losses.cross_entropy import CrossEntropy
from tune.losses.fit import refuse_misfit
from tune.losses.focal import Focal
from tune.losses.logit_adjustment import LogitAdjustment
from tune.losses.mixture import Mixture
from tune.losses.supcon import SupCon
from tune.losses.triplet import Triplet

LABELS = [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.fixture
def output() -> Output:
    torch.manual_seed(3)
    embedding = torch.randn(8, 4).requires_grad_()
    return Output(torch.zeros(8, 2), embedding, torch.randn(8, 3).requires_grad_())


@pytest.fixture
def batch() -> Batch:
    labels = torch.tensor(LABELS)
    return Batch(torch.zeros(8, 1, 1, 1), labels, F.one_hot(labels, 3).float(), torch.ones(8), torch.arange(8))


def distance(x, y) -> float:
    """Of two rows brought to length 1."""
    norm_x, norm_y = math.hypot(*x), math.hypot(*y)
    return math.sqrt(sum((a / norm_x - b / norm_y) ** 2 for a, b in zip(x, y, strict=True)))


def cosine(x, y) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))


def test_center_is_cross_entropy_and_half_the_squared_distance(output, batch):
    loss = Center(num_classes=3, embedding_dim=4, strength=0.1)
    loss.centers.normal_()
    centers = loss.centers.tolist()
    rows = [
        sum((x - c) ** 2 for x, c in zip(row, centers[label], strict=True))
        for row, label in zip(output.embedding.tolist(), LABELS, strict=True)
    ]
    terms = loss.terms(output, batch)
    assert_close(terms["loss"], F.cross_entropy(output.logits, batch.labels))
    assert_close(terms["center"].item(), 0.1 / 2 * sum(rows) / 8)


def test_centers_move_by_the_rule_of_the_paper_and_rest_in_evaluation(output, batch):
    loss = Center(num_classes=3, embedding_dim=4, alpha=0.5)
    loss.centers.normal_()
    before, rows = loss.centers.tolist(), output.embedding.tolist()
    loss(output, batch)
    for label, center in enumerate(before):
        own = [row for row, each in zip(rows, LABELS, strict=True) if each == label]
        moved = [c - 0.5 * sum(c - row[i] for row in own) / (1 + len(own)) for i, c in enumerate(center)]
        assert_close(loss.centers[label].tolist(), moved)
    after = loss.eval().centers.clone()
    assert loss.terms(output, batch).keys() == {"loss"}
    assert torch.equal(loss.centers, after)


def test_centers_end_in_the_means_of_their_classes(output, batch):
    loss = Center(num_classes=3, embedding_dim=4)
    for _ in range(200):
        loss(output, batch)
    for label in range(3):
        assert_close(loss.centers[label], output.embedding[batch.labels == label].mean(dim=0).detach())


@pytest.mark.parametrize("kind", ["all", "semihard", "hard"])
def test_triplet_matches_a_loop_over_all_triplets(output, batch, kind):
    margin, rows = 0.3, output.embedding.tolist()
    found = []
    for a, p, n in itertools.product(range(8), repeat=3):
        if a != p and LABELS[a] == LABELS[p] != LABELS[n]:
            gap = distance(rows[a], rows[n]) - distance(rows[a], rows[p])
            wanted = {"all": gap <= margin, "semihard": 0 < gap <= margin, "hard": gap <= 0}[kind]
            found += [margin - gap] if wanted else []
    terms = Triplet(margin=margin, triplets=kind, strength=2.0).terms(output, batch)
    assert found
    assert_close(terms["triplet"].item(), 2 * sum(found) / len(found), rtol=1e-4, atol=1e-5)


def test_contrastive_matches_a_loop_over_all_pairs(output, batch):
    margin, rows = 1.2, output.embedding.tolist()
    near, far = [], []
    for i, j in itertools.permutations(range(8), 2):
        d = distance(rows[i], rows[j])
        if LABELS[i] == LABELS[j]:
            near.append(d)
        elif d < margin:
            far.append(margin - d)
    terms = Contrastive(margin=margin).terms(output, batch)
    expected = sum(near) / len(near) + sum(far) / len(far)
    assert_close(terms["contrastive"].item(), expected, rtol=1e-4, atol=1e-5)


def test_supcon_matches_equation_2(output, batch):
    temperature, rows, total = 0.2, output.embedding.tolist(), 0.0
    for i, label in enumerate(LABELS):
        others = [a for a in range(8) if a != i]
        denominator = sum(math.exp(cosine(rows[i], rows[a]) / temperature) for a in others)
        positives = [p for p in others if LABELS[p] == label]
        logs = [math.log(math.exp(cosine(rows[i], rows[p]) / temperature) / denominator) for p in positives]
        total -= sum(logs) / len(positives)
    terms = SupCon(temperature=temperature).terms(output, batch)
    assert_close(terms["supcon"].item(), total / 8, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Triplet, Contrastive, SupCon])
def test_a_term_on_the_embedding_is_left_out_in_evaluation(output, batch, make):
    assert make().eval().terms(output, batch).keys() == {"loss"}
    assert_close(make().eval()(output, batch), CrossEntropy()(output, batch))


@pytest.mark.parametrize("make", [Triplet, SupCon])
def test_a_batch_without_two_rows_of_a_class_gives_a_term_of_zero(output, batch, make):
    batch.labels = torch.arange(8)
    (term,) = make(cross_entropy=0).terms(output, batch).values()
    assert term.item() == 0
    term.backward()  # and a gradient of zero, not an error


def test_a_mixture_is_the_sum_of_its_parts_with_their_factors(output, batch):
    center = Center(num_classes=3, embedding_dim=4, strength=0.1, cross_entropy=0)
    mixture = Mixture({"focal": Focal(), "ce": CrossEntropy(), "center": center}, {"ce": 0.5, "center": 3.0})
    terms = mixture.terms(output, batch)
    center.centers.zero_()
    assert_close(terms["loss"], Focal()(output, batch) + 0.5 * CrossEntropy()(output, batch))
    assert_close(terms["center"], 3.0 * center.terms(output, batch)["center"])
    assert_close(mixture.eval()(output, batch), terms["loss"])
    assert any("centers" in name for name in mixture.state_dict())


def test_a_mixture_refuses_factors_without_a_part_no_parts_and_two_kinds_of_batches():
    with pytest.raises(ConfigError, match=r"loss.factors.foo.*focal"):
        Mixture({"focal": Focal()}, {"foo": 1.0})
    with pytest.raises(ConfigError, match="at least"):
        Mixture({})
    with pytest.raises(ConfigError, match="2 and 4 rows"):
        Mixture({"a": Triplet(rows_per_class=2), "b": SupCon(rows_per_class=4)})


def test_logit_adjustment_matches_the_formula_and_without_tau_is_cross_entropy(output, batch):
    shares = [0.6, 0.3, 0.1]
    total = 0.0
    for logits, label in zip(output.logits.tolist(), LABELS, strict=True):
        shifted = [logit + 1.5 * math.log(share) for logit, share in zip(logits, shares, strict=True)]
        total -= math.log(math.exp(shifted[label]) / sum(map(math.exp, shifted)))
    assert_close(LogitAdjustment([6, 3, 1], tau=1.5)(output, batch).item(), total / 8, rtol=1e-5, atol=1e-6)
    assert_close(LogitAdjustment([6, 3, 1], tau=0)(output, batch), CrossEntropy()(output, batch))
    with pytest.raises(ConfigError, match="class 1 has no training row"):
        LogitAdjustment([6, 0, 1])


@pytest.mark.parametrize(
    ("loss", "asked", "says"),
    [
        (Triplet(), {"embedding_trains": False}, "nothing in front of it trains"),
        (SupCon(), {"mixes": True}, "a mixed image has two"),
        (Mixture({"a": Contrastive()}), {"embedding_trains": False}, "nothing in front of it trains"),
    ],
)
def test_a_loss_that_would_be_ignored_is_refused(loss, asked, says):
    with pytest.raises(ConfigError, match=says):
        refuse_misfit(loss, **{"smoothing": 0.0, "mixes": False, "embedding_trains": True, **asked})


def test_a_blind_part_of_a_mixture_is_refused_with_smoothing():
    class Blind:
        def __call__(self, output, batch):
            return F.cross_entropy(output.logits, batch.labels)

    asked = {"smoothing": 0.1, "mixes": False, "embedding_trains": True}
    refuse_misfit(Mixture({"focal": Focal()}), **asked)
    with pytest.raises(ConfigError, match=r"Blind reads batch\.labels"):
        refuse_misfit(Mixture({"focal": Focal(), "blind": Blind()}), **asked)
