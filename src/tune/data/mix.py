"""mixup and cutmix: a batch in which every row is partly another one, in pixels and in class probabilities."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tune.batch import Batch


def mix(batch: Batch, mixup: float, cutmix: float) -> Batch:
    """The batch with every row mixed with a partner, drawn from torch's CPU generator; with both on, one is drawn.

    ``labels`` and ``index`` stay those of the rows themselves.

    Args:
        batch: finished and normalised.
        mixup: parameter of the Beta distribution, 0 for off.
        cutmix: parameter of the Beta distribution, 0 for off.
    """
    takes_cutmix = cutmix > 0 and (mixup == 0 or bool(torch.rand(()) < 0.5))
    alpha = cutmix if takes_cutmix else mixup
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    partner = torch.randperm(len(batch.labels))  # (B,)
    if takes_cutmix:
        height, width = batch.images.shape[-2:]
        centre = (int(torch.randint(height, ())), int(torch.randint(width, ())))
        return cut_and_paste(batch, share, partner, centre)
    return blend(batch, share, partner)


def blend(batch: Batch, share: float, partner: Tensor) -> Batch:
    """mixup: ``share`` of each row plus ``1 - share`` of its partner.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", eq. 1-2; one share per batch, as in the
    authors' code. Rows of unequal weight: see `_mix_targets`.

    Args:
        batch: is not changed.
        share: from 0 to 1.
        partner: (B,) row that each row is mixed with.
    """
    images = share * batch.images + (1 - share) * batch.images[partner]
    return _mix_targets(replace(batch, images=images), share, partner)


def cut_and_paste(batch: Batch, share: float, partner: Tensor, centre: tuple[int, int]) -> Batch:
    """cutmix: a rectangle of ``1 - share`` of the area shows the partner; clipped at the edge, and counted exactly.

    Source: Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
    eq. 1-2 and section 3.1.

    Args:
        batch: is not changed.
        share: from 0 to 1.
        partner: (B,) row that each row is mixed with.
        centre: (row, column) of the rectangle's middle, in pixels.
    """
    height, width = batch.images.shape[-2:]
    side = (1 - share) ** 0.5
    top, bottom = _span(centre[0], side * height, height)
    left, right = _span(centre[1], side * width, width)
    images = batch.images.clone()
    images[..., top:bottom, left:right] = batch.images[partner][..., top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return _mix_targets(replace(batch, images=images), share, partner)


def _span(middle: int, length: float, size: int) -> tuple[int, int]:
    half = int(length / 2)
    return max(middle - half, 0), min(middle + half, size)


def _mix_targets(batch: Batch, share: float, partner: Tensor) -> Batch:
    """Weights and probabilities so that the loss is the mean of the two rows' losses, each with its own weight.

    With equal weights these are ``share`` of one row's probabilities plus ``1 - share`` of the other's.
    """
    own, other = share * batch.weights, (1 - share) * batch.weights[partner]  # (B,)
    weights = own + other
    # Where both weights are 0 the row does not count; its probabilities only have to be finite.
    part = torch.where(weights > 0, own / weights.clamp_min(1e-30), share)[:, None]  # (B, 1)
    probs = part * batch.label_probs + (1 - part) * batch.label_probs[partner]  # (B, K)
    return replace(batch, label_probs=probs, weights=weights)
