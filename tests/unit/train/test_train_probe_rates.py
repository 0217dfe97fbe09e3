"""Reading a rate off losses: smoothing, the curve of a range test, the search by thirds, where the answer is known."""

from __future__ import annotations

import math

import pytest

from tune.errors import RunError
from tune.train.fused.group import fuse_key
from tune.train.probe.divide import Tries, judge, search
from tune.train.probe.losses import blew_up
from tune.train.probe.range_test import Curve, smoothed, suggest

CURVATURE = 40.0  # of the bowl: gradient descent is stable below 2 / 40


def descend(rates, start=1.0):
    """Loss before each step of gradient descent on a bowl, in a plain loop."""
    x, losses = start, []
    for rate in rates:
        losses.append(CURVATURE / 2 * x * x)
        x -= rate * CURVATURE * x
    return losses


def bowl(rate, steps=9):
    return sum(descend([rate] * steps)[-3:]) / 3


def test_smoothing_is_a_mean_with_weights_that_fall_by_equal_factors():
    values = [3.0, -1.0, 4.0, 1.0, -5.0]
    for number, got in enumerate(smoothed(values, memory=4), start=1):
        weights = [0.75 ** (number - 1 - place) for place in range(number)]
        told = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
        assert got == pytest.approx(told)


def test_smoothing_leaves_a_constant_and_a_memory_of_one_leaves_everything():
    assert smoothed([2.0] * 5, memory=3) == pytest.approx([2.0] * 5)
    assert smoothed([1.0, 5.0, 2.0], memory=1) == [1.0, 5.0, 2.0]


def test_the_curve_of_a_bowl_is_lowest_near_the_largest_stable_rate():
    rates = [1e-4 * 10 ** (step / 10) for step in range(40)]
    losses = descend(rates)
    read = suggest(Curve(rates, losses))
    assert 2 / CURVATURE / 1.3 < read.largest_stable < 2 / CURVATURE * 1.6
    assert read.lr < read.largest_stable


def test_the_suggestion_is_where_a_sigmoid_falls_fastest():
    rates = [10 ** (place / 20) for place in range(-100, 1)]
    losses = [1 - 1 / (1 + math.exp(-3 * math.log(rate / 1e-3))) for rate in rates]
    read = suggest(Curve(rates, losses))
    assert read.lr == pytest.approx(1e-3, rel=0.15)
    assert read.largest_stable == 1.0


@pytest.mark.parametrize(
    ("rates", "losses", "edge"),
    [
        ([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [1.0, 0.9, 0.2, 0.1, 0.05], "the largest that was tried"),
        ([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [1.0, 0.9, 0.2, 0.1, 0.90], "beyond which it rose"),
    ],
)
def test_a_curve_says_why_its_lowest_point_is_not_taken(rates, losses, edge):
    read = suggest(Curve(rates, losses))
    assert read.lr < read.largest_stable
    told = f"the loss fell fastest at {read.lr:.2g}, and more slowly up to {read.largest_stable:.2g}, {edge}"
    assert read.reason == told


def test_the_reason_says_of_rates_that_were_tried_what_they_did():
    """Rates above 0.009 lower the loss further yet; what is taken lies between two that were tried."""
    read = judge(Tries(0.79, {0.003: 0.5, 0.009: 0.03, 0.027: 5e-4, 0.081: 3e-7, 0.243: 2e-9}, 10))
    assert 0.009 < read.lr < 0.027
    assert read.reason == (
        "of 5 rates, each tried for 10 steps on the same batches, 0.009 is the smallest with 95 % of the largest fall "
        f"of the loss (0.79 → 0.03; 0.24: 2e-09), and {read.lr} lies from it towards the better of its neighbours; "
        "0.24 still learned"
    )


def test_the_reason_of_a_rate_that_lowered_the_loss_most_is_that():
    read = judge(Tries(0.79, {0.003: 0.5, 0.009: 0.2, 0.027: 0.5, 0.081: 0.9}, 10))
    assert read.lr == 0.009
    assert "0.009 lowered the loss most (0.79 → 0.2); 0.027 still learned" in read.reason


def test_a_curve_that_never_falls_suggests_no_more_than_its_first_rate():
    read = suggest(Curve([1e-6, 1e-5, 1e-4, 1e-3], [1.0, 1.1, 1.3, 2.0]))
    assert (read.lr, read.largest_stable) == (1e-6, 1e-6)
    assert "never fell" in read.reason


@pytest.mark.parametrize("start", [10.0, 0.7, 0.05, 0.003, 1e-4])
def test_dividing_by_three_ends_within_a_factor_of_three_below_the_largest_stable_rate(start):
    tries = search(start, 9, bowl)
    stable = judge(tries).largest_stable
    assert 2 / CURVATURE / 3.1 < stable < 2 / CURVATURE
    best = min(tries.losses, key=tries.losses.__getitem__)
    assert 1 / CURVATURE / 3 < best < 3 / CURVATURE  # one step of 1 / curvature ends in the bottom
    ratios = [math.log(rate / start, 3) for rate in tries.losses]
    assert ratios == pytest.approx([round(ratio) for ratio in ratios], abs=1e-6)


def test_the_suggestion_is_the_lowest_point_of_the_parabola():
    for best in (0.004, 0.01, 0.016):
        tries = search(0.3, 9, lambda rate, best=best: (math.log(rate / best)) ** 2 if rate > 1e-9 else 3.0)
        assert judge(tries).lr == pytest.approx(best, rel=0.1)


def test_losses_that_are_not_finite_are_no_neighbours():
    tries = search(1.0, 9, lambda rate: math.inf if rate > 0.2 else bowl(rate / 2))
    assert max(rate for rate, loss in tries.losses.items() if math.isfinite(loss)) == pytest.approx(1 / 9)
    assert judge(tries).lr <= 1 / 9


def test_where_nothing_learns_no_rate_is_told():
    tries = search(1.0, 9, lambda rate: 1.0 + rate)
    with pytest.raises(RunError, match=r"lr: none from .* lowered the loss within 9 steps"):
        judge(tries)


def test_the_reason_names_the_numbers():
    told = judge(Tries(2.3, {0.1: 5.0, 0.03: 1.0, 0.01: 1.5}, 12))
    assert "3 rates, each tried for 12 steps" in told.reason
    assert "2.3 → 1" in told.reason
    assert told.largest_stable == 0.03


@pytest.mark.parametrize(
    ("first", "loss", "told"), [(1.0, 3.9, False), (1.0, 4.1, True), (-1.0, 1.9, False), (1.0, math.nan, True)]
)
def test_a_loss_blew_up_when_it_rose_by_more_than_three_times_the_first(first, loss, told):
    assert blew_up(first, loss) is told


def test_a_trial_that_looks_for_its_rate_trains_alone():
    from tune.config.compose import ConfigTree, compose

    words = ["data=digits", "backbone=efficientnet_lite0"]
    assert fuse_key(compose(ConfigTree(), [*words, "lr=1e-3"]).cfg) is not None
    assert fuse_key(compose(ConfigTree(), [*words, "lr=auto"]).cfg) is None


def test_of_rates_that_are_as_good_the_smallest_is_taken():
    def loss_at(rate):
        return 1 / (1 + (rate / 1e-4) ** 2)  # falls for ever: 5 % of the way is left at 4.4e-4

    for start in (10.0, 0.3, 1e-2, 1e-4):
        assert 2e-4 < judge(search(start, 9, loss_at)).lr < 2.5e-3
