"""A frozen part that is compiled says the same, in batches of any size, and is compiled only where that repays."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.features.compiled import Estimate, choose, estimate
from tune.features.extract import Encoder
from tune.features.prefix import Cut, cut_backbone
from tune.models.backbones.convnet import ConvNet

CPU = torch.device("cpu")


@pytest.fixture
def cut() -> Cut:
    torch.manual_seed(0)
    backbone = ConvNet(depth=2, width=4).eval().requires_grad_(False)
    found = cut_backbone(backbone, set())
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++") and not shutil.which("clang++"), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("default")  # of inductor
def test_compiled_it_says_the_same_of_any_number_of_images(cut):
    plain, compiled = Encoder(cut, None, CPU), Encoder(cut, None, CPU, compiled=True)
    images = torch.rand(70, 3, 32, 32)
    expected, found = plain(images), compiled(images)
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(compiled(images[:1]), found[:1])
    assert torch.equal(compiled(images[40:45]), found[40:45])
    assert torch.equal(compiled.plain(images), expected)
    assert plain.identity()["computed"] != compiled.identity()["computed"]


def test_the_estimate_grows_with_the_images_and_counts_each_multiplication(cut):
    one, two = (estimate(cut, images, (32, 32), None) for images in (100_000, 200_000))
    operations = 2 * 9 * (3 * 4 + 4 * 4) * 32 * 32  # two convolutions of 3 × 3, before the pooling
    assert one.takes == pytest.approx(100_000 * operations / 1e9 / (30 * torch.get_num_threads()))
    assert two.takes == pytest.approx(2 * one.takes)
    assert (one.costs, two.costs) == (0.8, 0.8)
    assert estimate(cut, 1_000, (32, 32), None).saves == 0


def test_auto_compiles_where_it_repays_and_on_a_cpu_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "g++").write_text("")
    (tmp_path / "g++").chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    pays, not_yet = Estimate(100, 28, 20), Estimate(50, 14, 20)
    assert choose("auto", "cpu", pays)
    assert not choose("auto", "cpu", not_yet)
    assert not choose("auto", "cuda", pays)
    assert choose("always", "cpu", not_yet)
    assert not choose("never", "cpu", pays)
    (tmp_path / "g++").unlink()
    assert not choose("auto", "cpu", pays)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        choose("always", "cpu", pays)
