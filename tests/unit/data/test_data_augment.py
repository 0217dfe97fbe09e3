from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from torch.testing import assert_close

from tune.data.augment import Augment, Elastic, Lighting
from tune.errors import ConfigError

CONF = Path(__file__).parents[3] / "conf" / "augment"
OPTIONS = ["none", "flip", "mild", "strong", "affine", "randaugment", "trivialaugment"]
OPTIONS += ["elastic", "lighting", "noise", "mixup", "cutmix"]


def pixels(size: int = 24) -> torch.Tensor:
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def option(name: str) -> Augment:
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    assert node.pop("_target_") == "tune.data.augment.Augment"
    return Augment(**node)


def test_every_option_of_the_group_is_known_here():
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == sorted(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_changes_something_and_keeps_shape_and_range(name):
    augment = option(name)
    changes = []
    for seed in range(12):
        torch.manual_seed(seed)
        result = augment(pixels())
        assert result.shape == (3, 24, 24)
        assert result.dtype in (torch.uint8, torch.float32)
        values = result / 255 if result.dtype == torch.uint8 else result
        assert values.min() >= 0
        assert values.max() <= 1
        changes.append(not torch.allclose(values, pixels() / 255))
    assert any(changes) == bool(augment.steps)
    assert augment.changes_pixels == (name not in ("none", "mixup", "cutmix"))
    assert augment.mixes == (name in ("mixup", "cutmix"))


def test_nothing_is_on_by_default():
    augment = Augment()
    assert not augment.changes_pixels
    assert not augment.mixes
    assert_close(augment(pixels()), pixels(), rtol=0, atol=0)


def test_pixels_and_mixing_can_be_combined():
    augment = Augment(flip_horizontal=0.5, noise=0.1, mixup=0.2, cutmix=1.0)
    assert augment.changes_pixels
    assert augment.mixes


def test_flips_mirror_the_image():
    assert_close(Augment(flip_horizontal=1.0)(pixels()), pixels().flip(2), rtol=0, atol=0)
    assert_close(Augment(flip_vertical=1.0)(pixels()), pixels().flip(1), rtol=0, atol=0)


def test_flips_come_as_often_as_asked():
    torch.manual_seed(0)
    augment = Augment(flip_horizontal=0.3)
    flipped = sum(not torch.equal(augment(pixels()), pixels()) for _ in range(500))
    assert 110 < flipped < 190


def test_noise_has_the_standard_deviation_asked_for():
    torch.manual_seed(0)
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    assert Augment(noise=0.05)(grey).std().item() == pytest.approx(0.05, rel=0.05)


def test_brightness_multiplies_by_a_factor_within_the_range():
    torch.manual_seed(0)
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    factors = [Augment(brightness=0.2)(grey)[0, 0, 0].item() / 100 for _ in range(200)]
    assert 0.79 <= min(factors) < 0.85
    assert 1.15 < max(factors) <= 1.2


def test_lighting_shifts_all_pixels_alike_by_the_formula():
    image = torch.rand(3, 5, 5) * 0.4 + 0.3
    torch.manual_seed(3)
    got = Lighting(0.1)(image)
    torch.manual_seed(3)
    drawn = torch.randn(3) * 0.1
    vectors, values = Lighting(0.1).vectors.tolist(), [0.2175, 0.0188, 0.0045]
    for channel in range(3):
        shift = sum(vectors[channel][k] * drawn[k].item() * values[k] for k in range(3))
        assert_close(got[channel], image[channel] + shift)


def test_lighting_directions_are_orthonormal():
    vectors = Lighting(0.1).vectors
    assert_close(vectors.T @ vectors, torch.eye(3), atol=2e-3, rtol=0)


def test_elastic_of_no_strength_changes_nothing_and_stronger_moves_more():
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 40), indexing="ij")
    image = torch.stack([y, x, y])
    assert_close(Elastic(0.0, 3)(image), image, atol=1e-5, rtol=0)
    shifts = []
    for seed in range(60):
        torch.manual_seed(seed)
        moved = Elastic(0.03, 3)(image)
        shifts.append((moved - image)[0, 20, 20])  # the middle knot; the image's value is its place, from 0 to 1
    assert torch.stack(shifts).std().item() == pytest.approx(0.03, rel=0.3)


@pytest.mark.parametrize(
    ("keys", "idle"),
    [
        ({"crop_ratio": 2.0}, "crop_ratio"),
        ({"elastic_knots": 5}, "elastic_knots"),
        ({"randaugment_magnitude": 3}, "randaugment_magnitude"),
    ],
)
def test_a_key_without_effect_is_an_error(keys, idle):
    with pytest.raises(ConfigError, match=rf"augment\.{idle}: has no effect"):
        Augment(**keys)


def test_every_argument_is_documented():
    documented = inspect.getdoc(Augment) or ""
    for name in inspect.signature(Augment).parameters:
        assert f"    {name}: " in documented
