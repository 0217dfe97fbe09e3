"""Images within ε of clean ones that raise something: in one step, or in several.

Pixels are 0-1 throughout, and what an attack gives is exactly an image: no pixel is below 0, above 1, or further than ε
from where it was, whatever was rounded on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Raised = Callable[[Tensor], Tensor]
"""Pixels (B, C, H, W), 0-1 → what an attack raises, one number for each row (B,), from that row alone."""


class Attacked(NamedTuple):
    """What an attack gives.

    Args:
        pixels: (B, C, H, W), 0-1.
        is_blind: (B,), whether no step had a gradient, so that the row says nothing about the network.
    """

    pixels: Tensor
    is_blind: Tensor


def fgsm(raised: Raised, clean: Tensor, eps: float) -> Attacked:
    """One step of ε along the sign of the gradient, then back into the range of pixels: ``x + eps * sign(grad)``.

    Source: Goodfellow et al. 2015, "Explaining and Harnessing Adversarial Examples", section 4 (its equation for the
    perturbation has no number). We clip to the range of pixels; they add without.

    Args:
        raised: what the attack raises.
        clean: (B, C, H, W), 0-1.
        eps: largest change of a pixel, 0-1.
    """
    direction = _direction(raised, clean)
    return Attacked(_into(clean + eps * direction, *bounds(clean, eps)), _is_zero(direction))


def pgd(raised: Raised, clean: Tensor, eps: float, *, steps: int, step_size: float, start: Tensor) -> Attacked:
    """Several steps along the sign of the gradient, each followed by the nearest image within ε of the clean one.

    Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks", section 2.1, the update
    below eq. 2.1, with the L∞ ball. The same; their random start is given by the caller.

    Args:
        raised: what the attack raises.
        clean: (B, C, H, W), 0-1.
        eps: largest change of a pixel, 0-1.
        steps: how many.
        step_size: change of a pixel in a step, 0-1.
        start: (B, C, H, W) from -1 to 1, where to start, in units of ε.
    """
    lower, upper = bounds(clean, eps)
    pixels = _into(clean + eps * start, lower, upper)
    is_blind = torch.ones(len(clean), dtype=torch.bool, device=clean.device)
    for _ in range(steps):
        direction = _direction(raised, pixels)
        is_blind &= _is_zero(direction)
        pixels = _into(pixels + step_size * direction, lower, upper)
    return Attacked(pixels, is_blind)


def bounds(clean: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest that each pixel may become.

    A sum in float32 is rounded, half the time away from the clean pixel; then the next number towards it is taken.
    """
    exact = clean.double()
    lower, upper = (exact - eps).to(clean.dtype), (exact + eps).to(clean.dtype)
    lower = torch.where(exact - lower.double() > eps, lower.nextafter(clean), lower)
    upper = torch.where(upper.double() - exact > eps, upper.nextafter(clean), upper)
    return lower.clamp_min(0.0), upper.clamp_max(1.0)


def _into(pixels: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(pixels, lower), upper)


def _direction(raised: Raised, pixels: Tensor) -> Tensor:
    """Sign of the gradient (B, C, H, W); 0 where there is none, or it is no number."""
    with torch.enable_grad():
        pixels = pixels.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(raised(pixels).sum(), pixels)
    return gradient.nan_to_num(nan=0.0).sign()


def _is_zero(direction: Tensor) -> Tensor:
    return ~direction.flatten(1).any(dim=1)
