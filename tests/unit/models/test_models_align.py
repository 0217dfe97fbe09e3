import torch
from torch.testing import assert_close

from tune.models.align import Align


def test_a_shift_and_scale_of_each_feature_is_undone():
    source = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1.0, 5.0, 0.1])
    align = Align(3).double()
    assert_close(align(source), source)
    target = source * torch.tensor([2.0, 0.5, 3.0]).double() + torch.tensor([4.0, -1.0, 0.0]).double()
    align.fit(source, target)
    assert_close(align(target), source)


def test_a_feature_that_is_dead_in_the_target_becomes_the_mean_of_the_source():
    source = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double() + 3
    align = Align(2).double()
    align.fit(source, torch.stack([source[:, 0], torch.zeros(50).double()], dim=1))
    moved = align(torch.tensor([[1.0, 0.01]]).double())
    assert_close(moved[0, 1], source[:, 1].mean())
