"""The rate that is advised in place of one that is too high."""

from __future__ import annotations

import math

import pytest
import torch

from tune.train.probe.lowered import SOUND_CHANGE, lowered, usual_of


def made(name: str, **keys: float) -> torch.optim.Optimizer:
    return getattr(torch.optim, name)([torch.zeros(1, requires_grad=True)], **keys)


def test_a_tenth_or_the_usual_or_what_moves_weights_soundly_whichever_is_least():
    adam, unknown = made("AdamW"), made("Adadelta")
    assert lowered(1e-3, adam) == pytest.approx(1e-4)
    assert lowered(1e30, adam) == pytest.approx(1e-3)
    assert lowered(1e30, unknown) == pytest.approx(1e29)
    for lr in (1e-2, 1e9):
        assert lowered(lr, unknown, change=3e5) * 3e5 / lr == pytest.approx(SOUND_CHANGE)
    for nothing in (0.0, math.inf, math.nan):
        assert lowered(1e-2, unknown, change=nothing) == pytest.approx(1e-3)


def test_the_usual_rate_goes_with_the_momentum():
    assert usual_of(made("SGD", lr=1)) == 0.1
    assert usual_of(made("SGD", lr=1, momentum=0.9)) == 0.01
    assert usual_of(made("SGD", lr=1, momentum=0.9, nesterov=True)) == 0.01
    assert usual_of(made("Adadelta")) is None
