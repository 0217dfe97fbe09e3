from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels, as multiples of the mean squared distance."""


def mmd(source: Tensor, target: Tensor, widths: Sequence[float] = WIDTHS) -> Tensor:
    """Squared maximum mean discrepancy under a mean of Gaussian kernels, ≥ 0.

    ``mean k(s, s') - 2 mean k(s, t) + mean k(t, t')`` with ``k(x, y) = mean over w of exp(-|x - y|² / (w m))``, m = the
    mean squared distance of all pairs of different rows, through which no gradient flows.

    Source: Gretton et al. 2012, "A Kernel Two-Sample Test", eq. 5 (with the diagonal, so that equal samples give 0);
    several kernels as in Long et al. 2015, "Learning Transferable Features with Deep Adaptation Networks", section 3.1,
    whose weights of the kernels we leave equal.

    Args:
        source: (N, D).
        target: (M, D).
        widths: of the kernels, as multiples of m.
    """
    both = torch.cat([source, target])
    both = both - both.mean(dim=0)  # distances are the same, and lose fewer digits
    square = (both * both).sum(dim=1)
    distance = (square[:, None] + square[None] - 2 * both @ both.T).clamp_min(0)  # (N + M, N + M)
    rows = len(both)
    distance = distance * (1 - torch.eye(rows, dtype=both.dtype, device=both.device))
    scale = distance.detach().sum() / (rows * (rows - 1)) + torch.finfo(both.dtype).tiny
    kernel = torch.stack([torch.exp(-distance / (width * scale)) for width in widths]).mean(dim=0)
    n = len(source)
    return kernel[:n, :n].mean() - 2 * kernel[:n, n:].mean() + kernel[n:, n:].mean()
