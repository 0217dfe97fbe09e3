from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as theirs
from statsmodels.stats.multitest import multipletests

from tune.evaluate.mcnemar import holm, mcnemar


def rights(both: int, only_a: int, only_b: int, neither: int):
    """Whether each of two runs is right, row by row, in a mixed order."""
    cells = [(True, True)] * both + [(True, False)] * only_a + [(False, True)] * only_b + [(False, False)] * neither
    rows = np.array(cells)[np.random.default_rng(0).permutation(len(cells))]
    return rows[:, 0], rows[:, 1]


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 9), (3, 4), (12, 12), (20, 4), (1, 23), (7, 0)])
def test_below_25_discordant_rows_it_is_the_exact_test_of_statsmodels(only_a, only_b):
    found = mcnemar(*rights(30, only_a, only_b, 5))
    assert (found.method, found.only_a, found.only_b) == ("exact", only_a, only_b)
    expected = theirs([[30, only_a], [only_b, 5]], exact=True)
    assert found.p == pytest.approx(1.0 if only_a == only_b == 0 else expected.pvalue)
    assert found.statistic == expected.statistic


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 25), (10, 15), (13, 12), (100, 60), (400, 402)])
def test_from_25_on_it_is_their_chi_squared_with_correction(only_a, only_b):
    found = mcnemar(*rights(3, only_a, only_b, 50))
    expected = theirs([[3, only_a], [only_b, 50]], exact=False, correction=True)
    assert found.method == "chi2"
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_equal_numbers_of_discordant_rows_say_nothing():
    assert mcnemar(*rights(3, 40, 40, 5)).p == 1.0


@pytest.mark.parametrize("values", [[0.04], [0.01, 0.04, 0.03], [0.5, 0.5, 0.001, 0.02], [1.0, 0.0]])
def test_holm_is_that_of_statsmodels(values):
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
