from __future__ import annotations

import json
import math

import pytest

from tune.cli.main import main

EPOCHS, STEPS = 6, 50
TOTAL = EPOCHS * STEPS


def fall(share: float) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * share)) / 2


FORMULAS = {
    "constant": lambda step: 1.0,
    "step": lambda step: 0.1 ** (3 * step // TOTAL),
    "exponential": lambda step: 0.9 ** (step // STEPS),
    "cosine": lambda step: fall(step / TOTAL),
    "warmup_cosine": lambda step: (step + 1) / 31 if step < 30 else fall((step - 30) / 270),
    "one_cycle": lambda step: 1 - 0.96 * fall(step / 90) if step < 90 else 4e-6 + (1 - 4e-6) * fall((step - 90) / 210),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")


def shown(capsys, *words: str) -> str:
    assert main(["cat", "--plot", "scheduler", f"epochs={EPOCHS}", "lr=0.02", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("option", FORMULAS)
def test_the_rates_are_those_of_the_formula(capsys, option):
    answer = json.loads(shown(capsys, f"scheduler={option}", f"epoch_steps={STEPS}", "--json"))
    assert answer["steps_per_epoch"] == STEPS
    assert answer["lr"] == pytest.approx([0.02 * FORMULAS[option](step) for step in range(TOTAL)])


@pytest.mark.parametrize("option", FORMULAS)
def test_each_bar_is_as_high_as_its_rate(capsys, option):
    head, *lines = shown(capsys, f"scheduler={option}", f"epoch_steps={STEPS}").splitlines()
    assert head.startswith(f"{option}   lr ")
    assert all(len(line) <= 60 for line in lines)
    bars = [line.partition("┤")[2].ljust(54) for line in lines if "┤" in line]
    assert len(bars) == 8
    rates = [FORMULAS[option](step) for step in range(TOTAL)]
    for column in range(54):
        eighths = sum(" ▁▂▃▄▅▆▇█".index(line[column]) for line in bars)
        rate = rates[int((column + 0.5) * TOTAL / 54)] / max(rates)
        assert abs(eighths - 64 * rate) <= 0.5 + 1e-9
    assert lines[0].startswith("0.02 ┤")
    assert lines[-2].startswith("   0 └")
    assert lines[-1].endswith("6 epochs")


def test_the_line_above_names_the_extremes(capsys):
    head = shown(capsys, "scheduler=one_cycle", "scheduler.start=0.5", "scheduler.rise=0.5").splitlines()[0]
    lowest = 0.02 * (4e-6 + (1 - 4e-6) * fall(299 / 300))
    assert f"lr 0.01 at first, at most 0.02 after 3 epochs, at least {lowest:.3g} after 5.99 epochs" in head


def test_a_schedule_that_follows_the_results_has_no_curve(capsys):
    text = shown(capsys, "scheduler=plateau", "scheduler.monitor=val/accuracy")
    assert "depends on the results (val/accuracy)" in text
    assert "┤" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scheduler.gama=0.5"], "scheduler.gama"),
        (["scheduler=step", "scheduler.every=6"], "the run has 6 epochs"),
        (["lr=-1"], "lr"),
        (["scheduler=nope"], "nope"),
    ],
)
def test_what_cannot_be_drawn_is_refused(capsys, words, said):
    assert main(["cat", "--plot", "scheduler", f"epochs={EPOCHS}", *words]) == 2
    assert said in capsys.readouterr().err
