"""Measures of a curve, one value per epoch."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from statistics import fmean, pvariance


def falls(loss: list[float], rates: list[float]) -> tuple[float, float]:
    """By how much a loss fell in the first half of the training and in the second; both have the same sum of rates.

    A rate that falls to 0 ends the fall of the loss too, which says nothing about what is left to learn.
    """
    behind, total = 0.0, sum(rates[1:])
    middle = loss[-1]
    for epoch, rate in enumerate(rates[1:], 1):
        behind += rate
        if behind >= total / 2:
            middle = loss[epoch]
            break
    return loss[0] - middle, middle - loss[-1]


def falling_back(values: list[float]) -> float:
    """Standard deviation of the noise of a curve that should rise, by its moves downwards; 0 without any."""
    moves = [after - before for before, after in pairwise(values) if after < before]
    return sqrt(fmean([move**2 for move in moves]) / 2) if moves else 0.0


def line(values: list[float]) -> float:
    """By how much the straight line through a curve rises, from its first value to the last."""
    middle, mean = (len(values) - 1) / 2, fmean(values)
    over = sum((i - middle) * (value - mean) for i, value in enumerate(values))
    return over / sum((i - middle) ** 2 for i in range(len(values))) * (len(values) - 1)


def line_error(values: list[float], noise: float) -> float:
    """Standard error of the rise of that line.

    Args:
        values: of three epochs the distances from the line tell of their noise too.
        noise: standard deviation of a value, at least.
    """
    number = len(values)
    if number > 2:
        noise = max(noise, sqrt(number * pvariance(around_line(values)) / (number - 2)))
    return noise * (number - 1) / sqrt(number * (number**2 - 1) / 12)


def around_line(values: list[float]) -> list[float]:
    """A curve without its straight line."""
    rise = line(values) / (len(values) - 1)
    return [value - rise * i for i, value in enumerate(values)]


def last(values: list[float], parts: int) -> int:
    """Number of epochs in the last of some equal parts of a run, at least one."""
    return max(1, len(values) // parts)
