from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tune.data.augment import Augment
from tune.data.transforms import InputTransform
from tune.errors import ConfigError

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * y / height, 255 * x / width, 127 + 100 * np.sin(x / 9)], axis=-1).astype(np.uint8)


def shown(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(1, 2, 0).numpy() * 255


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (70, 70), (20, 31)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_is_shorter_side_to_size_then_centre(shape, interpolation):
    image = smooth(*shape)
    scale = 40 / min(shape)
    resized = Image.fromarray(image).resize(
        (round(shape[1] * scale), round(shape[0] * scale)), Image.Resampling[interpolation.upper()]
    )
    left, top = (resized.width - 40) // 2, (resized.height - 40) // 2
    expected = np.asarray(resized.crop((left, top, left + 40, top + 40)), dtype=float)
    got = shown(InputTransform((40, 40), **PLAIN, interpolation=interpolation)(image))
    # Half a pixel may lie between the two: whole pixels are cut off there, exact halves here.
    assert abs(got - expected).mean() < 2.5
    assert abs(got - expected).max() < 15


def test_an_image_of_the_right_size_is_not_touched():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for fit in ("crop", "stretch", "pad"):
        np.testing.assert_allclose(shown(InputTransform((24, 32), **PLAIN, fit=fit)(image)), image, atol=1e-3)


def test_stretch_shows_the_whole_image():
    image = smooth(30, 90)
    expected = np.asarray(Image.fromarray(image).resize((40, 40), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(shown(InputTransform((40, 40), **PLAIN, fit="stretch")(image)), expected, atol=1e-3)


def test_pad_shows_the_whole_image_on_the_mean_colour():
    transform = InputTransform((40, 40), (0.2, 0.4, 0.6), (0.5, 0.5, 0.5), fit="pad")
    got = transform(np.full((30, 60, 3), 255, np.uint8))
    assert got.shape == (3, 40, 40)
    assert_close(got[:, :10].abs().max(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(got[:, 30:].abs().max(), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert_close(got[:, 10:30, 5], ((1 - torch.tensor([0.2, 0.4, 0.6])) / 0.5)[:, None].expand(3, 20))


def test_pixels_are_normalised_channel_by_channel():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    got = InputTransform((5, 6), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))(image)
    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), strict=True)):
        expected = (image[..., channel] / 255 - mean) / std
        np.testing.assert_allclose(got[channel].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1)])
def test_grey_arrays_become_three_channels(shape):
    image = np.arange(81, dtype=np.uint8).reshape(shape)
    got = InputTransform((9, 9), **PLAIN)(image)
    for channel in range(3):
        np.testing.assert_allclose(got[channel].numpy() * 255, image.reshape(9, 9), atol=1e-4)


def test_a_file_gives_what_its_pixels_give(tmp_path):
    image = smooth(50, 60)
    Image.fromarray(image).save(tmp_path / "a.png")
    transform = InputTransform((32, 32))
    assert_close(transform(tmp_path / "a.png"), transform(image), rtol=0, atol=0)
    assert_close(transform(str(tmp_path / "a.png")), transform(Image.fromarray(image)), rtol=0, atol=0)


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    got = InputTransform((16, 16), **PLAIN, interpolation="bilinear")(stripes)
    assert got[0, 3:-3, 3:-3].std() < 0.05


def test_an_unknown_interpolation_names_those_there_are():
    with pytest.raises(ConfigError, match="bicubic"):
        InputTransform((8, 8), interpolation="cubic")


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_a_random_crop_is_part_of_the_image_and_fills_the_size(fit):
    # Red tells the row and green the column that a pixel comes from, so the crop can be read off the result.
    y, x = np.mgrid[0:100, 0:160]
    image = np.stack([y, x, np.full_like(x, 255)], axis=-1).astype(np.uint8)
    transform = InputTransform((50, 50), **PLAIN, fit=fit)
    augment = Augment(crop=0.3, crop_ratio=1.0)
    areas = []
    for seed in range(30):
        torch.manual_seed(seed)
        got = shown(transform(image, augment))
        inside = got[..., 2] > 254
        assert inside.all() or fit == "pad"
        rows, columns = got[..., 0][inside], got[..., 1][inside]
        height, width = np.ptp(rows) + 2, np.ptp(columns) + 2  # pixel centres to edges, about
        areas.append(height * width / 16000)
        wanted = 1.0 if fit == "crop" else 1.6
        assert width / height == pytest.approx(wanted, rel=0.1)
    assert 0.25 < min(areas) < 0.45
    assert max(areas) < 1.05
