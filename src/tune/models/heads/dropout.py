"""Dropout whose mask follows from (seed, step, layer), so that resume and fused sweeps draw the same one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@final
class KeyedDropout(nn.Module):
    """Zeroes a share `p` of the values and scales the others by 1 / (1 - p), in training only.

    The mask is drawn from a generator of its own, seeded by `key`; the global random state is neither read nor moved.
    `Network.set_step` sets the key. Without one (a network used outside training) and on XLA devices, which have no
    such generators, this is PyTorch's dropout.

    Attributes:
        mask: when set, stands in for the one that would be drawn: several heads at once bring theirs along.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.key: tuple[int, int, int] | None = None
        self.mask: Tensor | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Same shape; the same tensor outside training."""
        if not self.training:
            return values
        if self.mask is not None:
            return values * self.mask
        if self.p == 0:
            return values
        if self.key is None or values.device.type == "xla":
            return F.dropout(values, self.p)
        return values * draw_mask(self.p, self.key, values.shape, values.device).to(values.dtype)


def draw_mask(p: float, key: tuple[int, int, int], shape: Sequence[int], device: torch.device) -> Tensor:
    """What dropout multiplies values by: 0 for a share `p`, 1 / (1 - p) for the others; float32.

    Args:
        p: the share, below 1.
        key: (seed, step, number of the dropout layer).
        shape: of the values.
        device: of the values.
    """
    generator = torch.Generator(device).manual_seed(_hash(key))
    return torch.empty(*shape, device=device).bernoulli_(1 - p, generator=generator).div_(1 - p)


def _hash(key: tuple[int, int, int]) -> int:
    """63 bits that differ in half their places for neighbouring keys."""
    digest = hashlib.blake2b(",".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
