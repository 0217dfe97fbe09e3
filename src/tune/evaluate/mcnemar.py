"""Whether two runs err equally often on the same rows, and what to make of several such tests. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

EXACT_BELOW = 25
"""Discordant rows below which the exact test is taken."""


@dataclass(frozen=True)
class McNemar:
    """What McNemar's test says.

    Args:
        only_a: rows that run a alone has right.
        only_b: rows that run b alone has right.
        method: exact (binomial), or chi2 with continuity correction.
        statistic: chi², or of the exact test the smaller of the two numbers.
        p: two-sided.
    """

    only_a: int
    only_b: int
    method: Literal["exact", "chi2"]
    statistic: float
    p: float


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> McNemar:
    """Test whether a and b are right equally often.

    With b and c rows that one of the two alone has right: below 25 of them the binomial test of ``min(b, c)`` in
    ``b + c`` throws of a fair coin, doubled; from there ``max(|b - c| - 1, 0)² / (b + c)``, chi² of one degree.

    Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages";
    the correction is that of Edwards 1948. It is not applied beyond equality (b = c gives p = 1).

    Args:
        right_a: (N,) whether run a is right.
        right_b: (N,).
    """
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    if n < EXACT_BELOW:
        tail = sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n
        return McNemar(only_a, only_b, "exact", float(fewer), min(1.0, 2 * tail))
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / n
    return McNemar(only_a, only_b, "chi2", statistic, math.erfc(math.sqrt(statistic / 2)))


def holm(values: Sequence[float]) -> list[float]:
    """p values of several tests, corrected so that the chance of any false alarm is what one of them had.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Args:
        values: p of each test.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, least = [0.0] * len(values), 0.0
    for place, test in enumerate(order):
        least = max(least, min(1.0, (len(values) - place) * values[test]))
        corrected[test] = least
    return corrected
