from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tune.batch import Batch
from tune.data.mix import blend, cut_and_paste, mix


def batch_of(rows: int = 6, weights: list[float] | None = None) -> Batch:
    torch.manual_seed(0)
    labels = torch.arange(rows) % 3
    return Batch(
        images=torch.rand(rows, 3, 8, 10),
        labels=labels,
        label_probs=torch.nn.functional.one_hot(labels, 3).float() * 0.9 + 0.1 / 3,
        weights=torch.ones(rows) if weights is None else torch.tensor(weights),
        index=torch.arange(rows) + 50,
    )


def test_blend_is_the_formula_row_by_row():
    batch, partner = batch_of(), torch.tensor([1, 2, 3, 4, 5, 0])
    mixed = blend(batch, 0.3, partner)
    for row in range(6):
        other = int(partner[row])
        assert_close(mixed.images[row], 0.3 * batch.images[row] + 0.7 * batch.images[other])
        assert_close(mixed.label_probs[row], 0.3 * batch.label_probs[row] + 0.7 * batch.label_probs[other])
    assert_close(mixed.weights, batch.weights)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    batch, partner = batch_of(), torch.tensor([1, 2, 3, 4, 5, 0])
    for share, centre in [(0.75, (4, 5)), (0.2, (0, 0)), (0.5, (7, 9)), (0.0, (4, 5)), (1.0, (3, 3))]:
        mixed = cut_and_paste(batch, share, partner, centre)
        for row in range(6):
            own = (mixed.images[row] == batch.images[row]).all(0)
            other = (mixed.images[row] == batch.images[int(partner[row])]).all(0)
            assert (own | other).all()
            kept = own.float().mean().item()
            expected = kept * batch.label_probs[row] + (1 - kept) * batch.label_probs[int(partner[row])]
            assert_close(mixed.label_probs[row], expected)


def test_a_rectangle_inside_the_image_has_the_share_that_was_drawn():
    batch = batch_of()
    mixed = cut_and_paste(batch, 0.75, torch.arange(6).roll(1), (4, 5))
    changed = (mixed.images[0] != batch.images[0]).any(0)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_weighted_rows_keep_their_weights_in_the_loss():
    batch, partner, share = batch_of(weights=[1.0, 2.0, 0.0, 0.5, 3.0, 0.0]), torch.tensor([1, 0, 5, 2, 3, 2]), 0.3
    mixed = blend(batch, share, partner)
    log_p = torch.randn(6, 3).log_softmax(1)
    got = (mixed.weights * -(mixed.label_probs * log_p).sum(1)).sum()
    expected = torch.tensor(0.0)
    for row in range(6):
        other = int(partner[row])
        own_loss = -(batch.label_probs[row] * log_p[row]).sum()
        other_loss = -(batch.label_probs[other] * log_p[row]).sum()
        expected += share * batch.weights[row] * own_loss + (1 - share) * batch.weights[other] * other_loss
    assert_close(got, expected)
    assert_close(mixed.label_probs.sum(1), torch.ones(6))


def test_mixing_leaves_the_batch_and_the_true_labels_alone():
    batch = batch_of()
    images, probs = batch.images.clone(), batch.label_probs.clone()
    for mixup, cutmix in [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)]:
        mixed = mix(batch, mixup, cutmix)
        assert_close(mixed.label_probs.sum(1), torch.ones(6))
        assert torch.equal(mixed.labels, batch.labels)
        assert torch.equal(mixed.index, batch.index)
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.label_probs, probs)


def test_with_both_on_each_comes_about_half_of_the_time():
    batch, pasted = batch_of(), 0
    for seed in range(200):
        torch.manual_seed(seed)
        images = mix(batch, 1.0, 1.0).images
        # Pasting copies values, blending makes new ones.
        pasted += bool(torch.isin(images, batch.images).all())
    assert 70 < pasted < 130


def test_shares_follow_the_beta_distribution():
    batch, shares = batch_of(), []
    batch.images[:] = torch.arange(6.0)[:, None, None, None]
    for seed in range(400):
        torch.manual_seed(seed)
        mixed = mix(batch, 0.4, 0.0)
        partner_gap = mixed.images[0].mean().item()  # (1 - share) * partner, of row 0 whose value is 0
        if partner_gap > 0:
            torch.manual_seed(seed)
            torch.distributions.Beta(0.4, 0.4).sample()
            shares.append(1 - partner_gap / torch.randperm(6)[0].item())
    moments = torch.tensor(shares)
    assert moments.mean().item() == pytest.approx(0.5, abs=0.06)
    assert moments.var().item() == pytest.approx(0.25 / (2 * 0.4 + 1), abs=0.03)
