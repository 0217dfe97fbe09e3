"""Verdicts on curves that are drawn: one that each must be given, and many that must be given none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tune.config.compose import ConfigTree, compose
from tune.report.curves import around_line, falling_back, falls, line, line_error
from tune.report.diagnosis import diagnose
from tune.report.story import Predicted, Story

COMPOSED = compose(ConfigTree(), ["data=synthetic", "freeze=full"])
EPOCHS = 20


def story(train, val, accuracy, *, rows=400, lr=1e-3, classes=2, status="done", val_rows=None, **choices):
    """A run with these curves; `lr` is one number, or one for each epoch."""
    rates = lr if isinstance(lr, list) else [lr] * len(train)
    record = {
        "status": status,
        "cause": "the loss is no longer a finite number (epoch 3). Try a smaller lr" if status == "diverged" else "",
        "choices": {**COMPOSED.choices, **choices},
        "weights": {"digest": "ab"},
        "data": {"how": "stratified by label"},
        "counts": {"train": 4 * rows, "val": rows},
        "prevalence": {"train": [4 * rows // classes] * classes, "val": [rows // classes] * classes},
        "classes": list("abcdefghij"[:classes]),
    }
    curves = zip(rates, train, val, accuracy, strict=True)
    history = [
        {"epoch": i, "lr": rate, "train/loss": t, "val/loss": v, "val/accuracy": a}
        for i, (rate, t, v, a) in enumerate(curves, 1)
    ]
    return Story(record, {**COMPOSED.cfg, "epochs": len(history)}, history, val_rows or Predicted())


def calibrated(rows, classes):
    """What a network says that is as sure as it should be."""
    draw = np.random.default_rng([rows, classes])
    probs = draw.dirichlet([0.2] * classes, rows).clip(1e-6)
    labels = [int(draw.choice(classes, p=p / p.sum())) for p in probs]
    return Predicted([f"row {i}" for i in range(rows)], labels, (probs / probs.sum(axis=1, keepdims=True)).tolist())


def names(*args, **keys):
    return [verdict.name for verdict in diagnose(story(*args, **keys))]


def towards(start, end, epochs=EPOCHS, pace=3.0):
    return [end + (start - end) * math.exp(-i / pace) for i in range(epochs)]


GOOD = (towards(0.6, 0.25), towards(0.55, 0.3), towards(0.7, 0.88))


def test_a_curve_that_has_levelled_off_is_healthy_and_says_its_numbers():
    (verdict,) = diagnose(story(*GOOD))
    assert verdict.name == "healthy"
    assert "val/accuracy 0.88" in verdict.evidence
    assert 2 <= len(verdict.tries) <= 3


def test_noise_on_a_healthy_curve_raises_no_alarm_but_where_it_happens_to_fall_to_the_end():
    alarms, count = [], 0
    for classes, epochs, rows in itertools.product([2, 10], [8, 20, 50], [300, 1000]):
        chance, said, pace = math.log(classes), calibrated(rows, classes), epochs / 10
        # The rows are the same in every epoch, so that its accuracy moves by less than that of other rows would.
        error = 0.6 * math.sqrt(0.88 * 0.12 / rows)
        for seed in range(10):
            draw = np.random.default_rng([seed, classes, epochs, rows])
            accuracy = np.clip(towards(0.7, 0.88, epochs, pace) + draw.normal(0, error, epochs), 0, 1)
            val = chance * (towards(0.8, 0.4, epochs, pace) + draw.normal(0, 0.3 / math.sqrt(rows), epochs))
            train = chance * (towards(0.9, 0.33, epochs, pace) + draw.normal(0, 0.005, epochs))
            curves = train.tolist(), val.tolist(), accuracy.tolist()
            found = names(*curves, rows=rows, classes=classes, val_rows=said)
            count += 1
            alarms += [] if found == ["healthy"] else [(classes, epochs, rows, *found)]
    assert all(alarm[1] == 8 and alarm[3:] == ("still improving",) for alarm in alarms), alarms
    assert len(alarms) <= 0.03 * count


def test_validation_that_turns_while_training_goes_on_is_overfitting():
    val = [*towards(0.55, 0.35, 8, 2), *(0.36 + 0.02 * i for i in range(12))]
    (verdict,) = diagnose(story(towards(0.6, 0.02), val, towards(0.7, 0.85)))
    assert verdict.name == "overfitting"
    assert "val/loss rose from 0.356 (epoch 8)" in verdict.evidence
    assert verdict.tries[0].words == ["augment=mild"]


def test_a_gap_without_a_turn_is_overfitting_too_unless_it_is_small():
    val, accuracy = towards(0.6, 0.45), towards(0.7, 0.8)
    assert names(towards(0.6, 0.02), val, accuracy) == ["overfitting"]
    assert names(towards(0.6, 0.38), val, accuracy) == ["healthy"]


def test_a_turn_that_training_does_not_go_along_with_is_not_overfitting():
    val = [*towards(0.55, 0.35, 8, 2), *(0.36 + 0.02 * i for i in range(12))]
    assert "overfitting" not in names([*towards(0.6, 0.3, 8, 2), *[0.45] * 12], val, towards(0.7, 0.85))


def test_a_loss_that_stays_at_guessing_is_underfitting_at_a_usual_rate_and_a_low_rate_at_a_low_one():
    flat, accuracy = [0.692] * EPOCHS, [0.52] * EPOCHS
    assert names(flat, flat, accuracy) == ["underfitting"]
    assert names(flat, flat, accuracy, lr=1e-6) == ["rate too low"]
    assert names(flat, flat, accuracy, lr=1e-3, optimizer="sgd") == ["rate too low"]  # low for it
    assert names(flat, flat, accuracy, lr=1e-6, optimizer="timm") == ["underfitting"]  # nobody knows what is low


def test_a_loss_that_falls_evenly_at_a_low_rate_is_told_so_though_the_schedule_ends_the_fall():
    rates = [1e-5 * (1 + math.cos(math.pi * (i + 1) / EPOCHS)) / 2 for i in range(EPOCHS)]
    behind = np.cumsum(rates) / sum(rates)
    loss = (0.69 - 0.1 * behind).tolist()
    assert loss[-2] - loss[-1] < 1e-4
    (verdict,) = diagnose(story(loss, loss, [0.6] * EPOCHS, lr=rates))
    assert verdict.name == "rate too low"
    assert [each.words for each in verdict.tries[:2]] == [["lr=auto"], ["lr=0.01"]]  # ten times the config's 1e-3
    assert names(towards(0.69, 0.64, pace=1), towards(0.69, 0.64, pace=1), [0.6] * EPOCHS, lr=rates) == ["underfitting"]


def test_the_rate_is_not_blamed_where_validation_lags_behind_or_nearly_all_is_learned():
    slow = [0.6 - 0.02 * i for i in range(EPOCHS)]
    assert names(slow, slow, towards(0.7, 0.9), lr=1e-5) == ["rate too low"]
    assert "rate too low" not in names(slow, [value + 0.1 for value in slow], towards(0.7, 0.9), lr=1e-5)
    nearly = [0.3 - 0.0145 * i for i in range(EPOCHS)]
    assert "rate too low" not in names(nearly, nearly, towards(0.9, 0.99), lr=1e-5)


def test_what_still_falls_at_the_end_is_still_improving():
    falling = [0.6 - 0.012 * i for i in range(EPOCHS)]
    (verdict,) = diagnose(story(falling, falling, [0.7 + 0.008 * i for i in range(EPOCHS)]))
    assert verdict.name == "still improving"
    assert [each.words[0] for each in verdict.tries][:1] == ["epochs=40"]
    assert names([0.6, 0.5, 0.43], [0.6, 0.52, 0.46], [0.7, 0.75, 0.78]) == ["still improving"]


def test_an_objective_that_rises_counts_as_improving_though_the_loss_is_flat():
    accuracy = [0.7 + 0.01 * i for i in range(EPOCHS)]
    assert names(GOOD[0], GOOD[1], accuracy, rows=1000) == ["still improving"]


def test_a_loss_above_guessing_or_a_status_is_divergence():
    high = [30.0, 20.0, 15.0, 12.0]
    assert names(high, high, [0.5] * 4, lr=3.0) == ["diverged"]
    (verdict,) = diagnose(story([], [], [], status="diverged"))
    assert verdict.name == "diverged"
    assert verdict.evidence == "the loss is no longer a finite number (epoch 3)"
    assert names([0.6, math.nan], [0.6, 0.6], [0.7, 0.7]) == ["diverged"]


def test_a_loss_no_network_would_be_so_sure_of_is_divergence_in_any_epoch_and_any_part():
    fine = [0.6, 0.4, 0.3, 0.2, 0.1, 0.0]
    thrown = story([1e27, *fine[1:]], [0.0] * 6, [1.0] * 6, lr=1e30)
    (verdict,) = diagnose(thrown)
    assert (verdict.name, verdict.evidence.partition(",")[0]) == ("diverged", "train/loss 1e+27 in epoch 1")
    (verdict,) = diagnose(story(fine, [0.6, 1e5, *fine[2:]], [1.0] * 6))
    assert (verdict.name, verdict.evidence.partition(",")[0]) == ("diverged", "val/loss 1e+05")
    tested = story(fine, fine, [1.0] * 6)
    assert "diverged" not in [each.name for each in diagnose(tested)]
    tested.record["metrics"] = {"test/loss": 6e30}
    assert [each.name for each in diagnose(tested)] == ["diverged"]
    tested.record["metrics"] = {"test/loss": 20.0, "test/accuracy": 0.5}
    assert "diverged" not in [each.name for each in diagnose(tested)], "sure and wrong, as overfitting is"


def test_of_a_cause_the_verdict_keeps_what_ended_it_and_where_it_began():
    cause = (
        "the loss is no longer a finite number (epoch 1, step 2, batch 2 with cat/29.png, a) b.png and 3 more): it "
        "begins in layer blocks.1.0, in what backbone.model.blocks.1.0.conv_pw gives. Try lr=0.1"
    )
    run = story([], [], [], status="diverged")
    run.record["cause"] = cause
    (verdict,) = diagnose(run)
    told = "the loss is no longer a finite number (epoch 1, step 2): it begins in layer blocks.1.0"
    assert verdict.evidence == told


def test_few_rows_are_told_with_the_number_that_would_do():
    (verdict,) = diagnose(story(*GOOD, rows=60))
    assert verdict.name == "noisy validation"
    share = (max(GOOD[2]) * 60 + 2) / 64
    half = 1.96 * math.sqrt(share * (1 - share) / 64)
    assert f"±{100 * half:.0f} points" in verdict.evidence
    assert verdict.evidence.endswith(f"{round(share * (1 - share) * (1.96 / 0.02) ** 2):,}")


def test_an_accuracy_that_jumps_by_more_than_chance_is_noisy():
    draw = np.random.default_rng(0)
    accuracy = (np.array(GOOD[2]) - 0.1 * abs(draw.standard_normal(EPOCHS))).tolist()
    (verdict,) = diagnose(story(GOOD[0], GOOD[1], accuracy, rows=2000))
    assert verdict.name == "noisy validation"
    assert verdict.tries[0].words == ["regularize.ema=0.99"]


def test_one_epoch_has_no_curve():
    (verdict,) = diagnose(story([0.1], [0.6], [0.8]))
    assert verdict.name == "healthy"
    assert "no curve to judge" in verdict.evidence
    assert diagnose(story([], [], [], status="failed")) == []


def test_measures_of_a_curve():
    assert line([1.0, 2.0, 4.0, 5.0]) == pytest.approx(np.polyfit(range(4), [1, 2, 4, 5], 1)[0] * 3)
    assert around_line([1.0, 3.0, 5.0]) == pytest.approx([1.0, 1.0, 1.0])
    assert falls([1.0, 0.8, 0.5, 0.4], [1.0, 1.0, 1.0, 0.0]) == pytest.approx((0.2, 0.4))
    assert falling_back([1.0, 2.0, 3.0]) == 0
    values = [1.0, 2.0, 4.0, 4.0, 6.0]
    _, errors = np.polyfit(range(5), values, 1, cov=True)
    assert line_error(values, 0) == pytest.approx(4 * errors[0, 0] ** 0.5)
    assert line_error(values[:2], 0.5) == pytest.approx(0.5 * 2**0.5)
    draw = np.random.default_rng(0).normal(0, 0.5, 4000)
    assert falling_back(draw.tolist()) == pytest.approx(0.5, rel=0.05)
