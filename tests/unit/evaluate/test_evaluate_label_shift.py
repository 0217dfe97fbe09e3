import numpy as np
import pytest

from tune.evaluate.label_shift import estimated_shares, shift


def said_of(labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Noisy probabilities that depend on the class alone."""
    return draw.dirichlet(np.ones(3), len(labels)) * 0.5 + np.eye(3)[labels] * 0.5


@pytest.mark.parametrize("shares", [(1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1), (0.0, 0.5, 0.5)])
def test_shares_are_found_again_where_they_alone_differ(shares):
    draw = np.random.default_rng(0)
    known, hidden = draw.integers(0, 3, 3000), draw.choice(3, 3000, p=shares)
    found = estimated_shares(known, said_of(known, draw), said_of(hidden, draw))
    assert found.sum() == pytest.approx(1)
    assert np.abs(found - np.array(shares)).max() < 0.03


def test_the_distance_is_half_the_sum_of_differences():
    assert shift(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1
    assert shift(np.array([0.5, 0.5]), np.array([0.6, 0.4])) == pytest.approx(0.1)
