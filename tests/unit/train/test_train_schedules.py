from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.train import schedules

TOTAL, PER_EPOCH = 20, 4
RATES = (1e-3, 1e-4)


def make_optimizer() -> torch.optim.Optimizer:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in RATES]
    return torch.optim.SGD(groups, lr=1.0)


def factors(make, total: int = TOTAL, **keys) -> list[float]:
    """The factor on the rates in each step of a run, after a check that all groups agree on it."""
    optimizer = make_optimizer()
    made = make(optimizer, **facts(make, total), **keys)
    assert made["interval"] == "step"
    seen = []
    for _ in range(total):
        pair = [group["lr"] / rate for group, rate in zip(optimizer.param_groups, RATES, strict=True)]
        assert_close(pair[0], pair[1])
        seen.append(pair[0])
        optimizer.step()
        made["scheduler"].step()
    return seen


def facts(make, total: int) -> dict[str, int]:
    known = {"total_steps": total, "steps_per_epoch": PER_EPOCH}
    return {name: value for name, value in known.items() if name in make.__annotations__}


BY_STEP = [
    schedules.constant,
    schedules.step,
    schedules.exponential,
    schedules.cosine,
    schedules.warmup_cosine,
    schedules.one_cycle,
]


def test_constant_stays():
    assert factors(schedules.constant) == [1.0] * TOTAL


def test_step_drops_after_every_so_many_epochs():
    assert_close(factors(schedules.step, every=2, gamma=0.5), [1.0] * 8 + [0.5] * 8 + [0.25] * 4)


def test_step_drops_twice_in_the_run_by_default():
    assert_close(factors(schedules.step, total=12), [1.0] * 4 + [0.1] * 4 + [0.01] * 4)


def test_a_step_that_is_never_taken_is_refused():
    with pytest.raises(ConfigError, match="the run has 5 epochs"):
        factors(schedules.step, every=5)


def test_exponential_falls_after_every_epoch():
    assert_close(factors(schedules.exponential, gamma=0.8), [0.8 ** (step // PER_EPOCH) for step in range(TOTAL)])


def test_cosine_follows_torchs():
    optimizer = make_optimizer()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL)
    expected = []
    for _ in range(TOTAL):
        expected.append(optimizer.param_groups[0]["lr"] / RATES[0])
        optimizer.step()
        scheduler.step()
    assert_close(factors(schedules.cosine), expected)


def test_cosine_ends_at_its_final_factor():
    optimizer = make_optimizer()
    scheduler = schedules.cosine(optimizer, TOTAL, final=0.25)["scheduler"]
    for _ in range(TOTAL):
        optimizer.step()
        scheduler.step()
    assert_close(optimizer.param_groups[0]["lr"], 0.25 * RATES[0])


def test_warmup_rises_in_a_line_to_a_cosine():
    rise = [step / 6 for step in range(1, 6)]
    fall = [(1 + math.cos(math.pi * step / 15)) / 2 for step in range(15)]
    assert_close(factors(schedules.warmup_cosine, warmup=0.25), rise + fall)


def test_one_cycle_rises_to_one_and_falls():
    rise = [0.04 + 0.96 * (1 - math.cos(math.pi * step / 5)) / 2 for step in range(5)]
    fall = [4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * step / 15)) / 2 for step in range(15)]
    assert_close(factors(schedules.one_cycle, rise=0.25), rise + fall)


@pytest.mark.parametrize("make", BY_STEP)
def test_a_run_of_one_step_has_a_rate(make):
    assert 0 < factors(make, total=1)[0] <= 1


@pytest.mark.parametrize("make", BY_STEP)
@pytest.mark.parametrize("stop", [1, 5, 19])
def test_resume_continues_exactly(make, stop):
    uninterrupted = make_optimizer()
    scheduler = make(uninterrupted, **facts(make, TOTAL))["scheduler"]
    resumed = make_optimizer()
    for _ in range(stop):
        uninterrupted.step()
        scheduler.step()
    again = make(resumed, **facts(make, TOTAL))["scheduler"]
    resumed.load_state_dict(uninterrupted.state_dict())
    again.load_state_dict(scheduler.state_dict())
    for _ in range(stop, TOTAL):
        for optimizer, schedule in ((uninterrupted, scheduler), (resumed, again)):
            optimizer.step()
            schedule.step()
        assert [group["lr"] for group in resumed.param_groups] == [g["lr"] for g in uninterrupted.param_groups]


def run_plateau(values: list[float], **keys) -> list[list[float]]:
    optimizer = make_optimizer()
    made = schedules.plateau(optimizer, **keys)
    assert made["interval"] == "epoch"
    rates = []
    for value in values:
        optimizer.step()
        made["scheduler"].step(value)
        rates.append([group["lr"] for group in optimizer.param_groups])
    return rates


def test_plateau_drops_all_rates_when_the_loss_has_stopped_falling():
    rates = run_plateau([1.0, 0.5, 0.5, 0.5, 0.5], patience=1, factor=0.5)
    assert_close([rate[0] for rate in rates], [1e-3, 1e-3, 1e-3, 5e-4, 5e-4])


def test_plateau_of_an_accuracy_drops_when_it_has_stopped_rising():
    rates = run_plateau([0.5, 0.6, 0.7, 0.7], patience=0, factor=0.5, monitor="val/accuracy")
    assert_close([rate[0] for rate in rates], [1e-3, 1e-3, 1e-3, 5e-4])


def test_plateau_keeps_the_ratio_of_the_groups_down_to_tiny_rates():
    rates = run_plateau([1.0] * 40, patience=0, factor=0.5)
    assert_close(rates[-1][0] / rates[-1][1], 10.0)
    assert rates[-1][0] < 1e-12


def test_plateau_resumes_exactly():
    values = [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
    uninterrupted = run_plateau(values, patience=1)
    optimizer = make_optimizer()
    scheduler = schedules.plateau(optimizer, patience=1)["scheduler"]
    for value in values[:4]:
        optimizer.step()
        scheduler.step(value)
    resumed = make_optimizer()
    again = schedules.plateau(resumed, patience=1)["scheduler"]
    resumed.load_state_dict(optimizer.state_dict())
    again.load_state_dict(scheduler.state_dict())
    for value, expected in zip(values[4:], uninterrupted[4:], strict=True):
        resumed.step()
        again.step(value)
        assert [group["lr"] for group in resumed.param_groups] == expected
