"""Images that are read in every epoch are decoded once, and nothing random is done to what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tune.data import transforms
from tune.data.augment import Augment
from tune.data.loading.batches import ImageBatches
from tune.data.pixels import KeptPixels
from tune.data.samplers import Rows
from tune.data.table import Table
from tune.data.transforms import InputTransform

AUGMENTS = {
    "none": None,
    "flip": Augment(flip_horizontal=0.5),
    "crop": Augment(crop=0.3, flip_vertical=0.5),
    "strong": Augment(rotate=20, brightness=0.5, erase=1.0, lighting=0.2, elastic=0.1),
}


@pytest.fixture
def table(tmp_path):
    draw, paths = np.random.default_rng(0), []
    for row in range(6):
        shape = (20, 30) if row % 2 else (25, 15, 3)
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(draw.integers(0, 256, shape, np.uint8)).save(paths[-1])
    return Table([path.name for path in paths], np.arange(6) % 2, ["a", "b"], paths)


def batches(table, augment, room):
    made = ImageBatches(table, InputTransform((16, 16)), augment=augment, training=True)
    made.pixels = KeptPixels(room)
    return made


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("room", [0, 2000, 10**9], ids=["none kept", "some kept", "all kept"])
def test_what_is_kept_changes_no_pixel(table, name, room):
    plain, kept = batches(table, AUGMENTS[name], 0), batches(table, AUGMENTS[name], room)
    for epoch in (0, 1, 0, 2):
        rows = Rows(epoch, 0, (5, 0, 3, 1, 2, 4), epoch)
        assert torch.equal(plain.batch(rows).images, kept.batch(rows).images)
    assert kept.pixels.num_bytes <= room


@pytest.mark.parametrize("name", AUGMENTS)
def test_a_file_is_opened_once(table, name, monkeypatch):
    opened = []
    monkeypatch.setattr(transforms, "open_image", lambda path: opened.append(path) or Image.open(path))
    made = batches(table, AUGMENTS[name], 10**9)
    for epoch in range(3):
        made.batch(Rows(epoch, 0, tuple(range(6)), epoch))
    assert opened == table.images


def test_grey_takes_a_third(table):
    made = batches(table, None, 10**9)
    made.batch(Rows(0, 0, tuple(range(6)), 0))
    assert made.pixels.num_bytes == 3 * 16 * 16 * (1 + 3)
