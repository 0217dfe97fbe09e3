from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tune.data.table import Table
from tune.data.transforms import InputTransform
from tune.features.cache import FeatureCache
from tune.features.digests import array_digests
from tune.features.whole import features_of
from tune.models.backbones.convnet import ConvNet
from tune.models.interface import Backbone, InputSpec

ROWS = [1, 4, 5, *range(10, 50)]


@pytest.fixture
def table():
    images = np.random.default_rng(0).integers(0, 255, (60, 20, 24), dtype=np.uint8)
    return Table([f"row {i}" for i in range(60)], np.zeros(60, dtype=np.int64), ["a", "b"], images)


def asked(backbone, table, cache=None, computed=None, counts=None):
    return features_of(
        backbone,
        InputTransform((16, 16)),
        table,
        ROWS,
        about="a test",
        computed=computed,
        device=torch.device("cpu"),
        cache=cache,
        digests=array_digests(table.images),
        tick=lambda done, total: None if counts is None else counts.append((done, total)),
    )


def plain(backbone, table):
    transform = InputTransform((16, 16))
    with torch.no_grad():
        return torch.cat([backbone.eval()(transform(table.images[row])[None]) for row in ROWS])


def test_rows_come_in_their_order_from_the_cache_and_without_it(table, tmp_path):
    backbone, cache = ConvNet(input_size=16), FeatureCache(tmp_path, max_gb=1)
    backbone.train()  # its norms must not follow the rows
    counts: list[tuple[int, int]] = []
    first, second = (asked(backbone, table, cache, counts=counts) for _ in range(2))
    assert_close(first, plain(backbone, table), rtol=1e-4, atol=1e-5)
    assert counts == [(32, 43), (43, 43)]  # once
    assert torch.equal(first, second)
    assert_close(asked(backbone, table), first, rtol=1e-5, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_what_the_cache_holds_damaged_is_computed_anew(table, tmp_path):
    backbone, cache = ConvNet(input_size=16), FeatureCache(tmp_path, max_gb=1)
    right = asked(backbone, table, cache)
    (path,) = tmp_path.rglob("*.rows")
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.warns(UserWarning, match="is broken; its rows are computed again"):
        assert torch.equal(asked(backbone, table, cache), right)


def test_less_precision_gives_nearly_the_same(table):
    backbone = ConvNet(input_size=16)
    exact, rounded = asked(backbone, table), asked(backbone, table, computed=torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.05 * exact.abs().max()


class Untraceable(Backbone):
    """Looks at its values, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.feature_dim, self.input = 4, InputSpec((16, 16), (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.layers = {"layer": ["layer.weight", "layer.bias"]}
        self.weights_source, self.weights_digest = "random weights", ""

    def forward(self, images):
        means = self.layer(images.mean(dim=(2, 3)))
        return means if float(means.sum()) > 1e9 else 2 * means


def test_a_backbone_that_cannot_be_traced_runs_as_it_is(table, tmp_path):
    backbone = Untraceable()
    assert_close(asked(backbone, table, FeatureCache(tmp_path, max_gb=1)), plain(backbone, table))
