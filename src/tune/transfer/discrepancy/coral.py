from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the covariances, ``|C_s - C_t|²_F / (4 D²)``, C with N - 1 in the denominator.

    Source: Sun and Saenko 2016, "Deep CORAL", eq. 1 to 3. The same.

    Args:
        source: (N, D), N of two or more.
        target: (M, D).
    """
    difference = _covariance(source) - _covariance(target)  # (D, D)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=0)
    return centred.T @ centred / (len(x) - 1)
