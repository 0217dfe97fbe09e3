"""Distances of two samples against loops in float64, their limits, and what moves them."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from tune.batch import Output
from tune.transfer.discrepancy.coral import coral
from tune.transfer.discrepancy.mmd import WIDTHS, mmd
from tune.transfer.together import apart

DISTANCES = pytest.mark.parametrize("distance", [mmd, coral], ids=["mmd", "coral"])


def samples(n: int = 9, m: int = 7, shift: float = 0.0, scale: float = 1.0):
    draw = torch.Generator().manual_seed(0)
    source = torch.randn(n, 4, dtype=torch.float64, generator=draw)
    return source, torch.randn(m, 4, dtype=torch.float64, generator=draw) * scale + shift


def slow_mmd(source, target) -> float:
    rows = [*source.tolist(), *target.tolist()]

    def square(x, y):
        return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))

    apart = [square(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
    mean = sum(apart) / len(apart)

    def k(x, y):
        return sum(math.exp(-square(x, y) / (width * mean)) for width in WIDTHS) / len(WIDTHS)

    def average(some, others):
        return sum(k(x, y) for x in some for y in others) / (len(some) * len(others))

    s, t = source.tolist(), target.tolist()
    return average(s, s) - 2 * average(s, t) + average(t, t)


def slow_coral(source, target) -> float:
    def covariance(rows):
        n, d = len(rows), len(rows[0])
        mean = [sum(row[i] for row in rows) / n for i in range(d)]
        return [
            [sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / (n - 1) for j in range(d)] for i in range(d)
        ]

    a, b = covariance(source.tolist()), covariance(target.tolist())
    d = len(a)
    return sum((a[i][j] - b[i][j]) ** 2 for i in range(d) for j in range(d)) / (4 * d * d)


@pytest.mark.parametrize(("fast", "slow"), [(mmd, slow_mmd), (coral, slow_coral)], ids=["mmd", "coral"])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (0.0, 2.0)])
def test_a_distance_is_its_formula_in_loops(fast, slow, shift, scale):
    source, target = samples(shift=shift, scale=scale)
    assert_close(float(fast(source, target)), slow(source, target), rtol=1e-10, atol=1e-12)


@DISTANCES
def test_equal_samples_are_not_apart(distance):
    source, _ = samples()
    assert float(distance(source, source[torch.randperm(9)])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("distance", "planted"), [(mmd, "shift"), (mmd, "scale"), (coral, "scale")], ids=["mmd, shift", "mmd", "coral"]
)
def test_a_distance_grows_with_a_planted_shift(distance, planted):
    sizes = (0.0, 0.5, 1.0, 2.0) if planted == "shift" else (1.0, 1.5, 2.0, 4.0)
    found = [float(distance(*samples(200, 200, **{planted: size}))) for size in sizes]
    assert found == sorted(found)
    assert found[-1] > 3 * found[0]


@DISTANCES
def test_its_gradient_is_that_of_finite_differences(distance):
    source, target = samples(5, 4, shift=0.3)
    weights = torch.linspace(0.5, 1.5, 4, dtype=torch.float64, requires_grad=True)
    # The width of mmd's kernels is a constant to the gradient, so a change of scale is not what is tested here.
    if distance is coral:
        assert torch.autograd.gradcheck(lambda w: distance(source * w, target * w), weights)
        return
    target = target.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mmd(source, target), target)
    both = torch.cat([source, target.detach()])
    mean = torch.cdist(both, both).square().sum() / (9 * 8)

    def fixed(t):
        def k(x, y):
            return sum(torch.exp(-torch.cdist(x, y).square() / (width * mean)) for width in WIDTHS) / len(WIDTHS)

        return k(source, source).mean() - 2 * k(source, t).mean() + k(t, t).mean()

    numeric = torch.zeros_like(target)
    for place in range(target.numel()):
        step = torch.zeros(target.numel(), dtype=torch.float64)
        step[place] = 1e-6
        step = step.view_as(target)
        numeric.view(-1)[place] = (fixed(target.detach() + step) - fixed(target.detach() - step)) / 2e-6
    assert_close(gradient, numeric, rtol=1e-5, atol=1e-8)


def test_rows_that_are_all_equal_do_not_divide_by_zero():
    same = torch.ones(3, 2)
    assert float(mmd(same, same)) == 0
    assert tensor(float(coral(same, same))).isfinite()


@DISTANCES
def test_mixed_precision_around_it_changes_nothing(distance):
    source, target = (Output(x.float(), x.float(), x.float()) for x in samples(40, 40, scale=2.0))
    plain = apart(distance, source, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(apart(distance, source, target), plain)
        assert float(apart(distance, source, source)) == pytest.approx(0, abs=1e-6)
