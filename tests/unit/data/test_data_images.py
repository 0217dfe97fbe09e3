from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tune.data.images import FORMATS, read_image, unreadable
from tune.data.table import Table
from tune.data.unreadable import drop_unreadable
from tune.errors import DataError

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50


def rgb(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, axis=-1)


def reason_of(path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    return caught.value.problems[0].text


def test_grey_and_colour_come_as_they_are(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "c.png")
    Image.fromarray(GREY).save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_image(tmp_path / "c.png"), colour)
    np.testing.assert_array_equal(read_image(tmp_path / "g.png"), rgb(GREY))
    assert read_image(tmp_path / "g.png").dtype == np.uint8


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "jpg"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    # By the EXIF standard: where the stored row 0 and the stored column 0 belong in the picture as it should be seen.
    stored = np.zeros((16, 24), np.uint8)
    stored[:8] = 200  # the stored top
    stored[:, :8] += 50  # the stored left
    shown = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored.T[:, ::-1],
        7: stored.T[::-1, ::-1],
        8: stored.T[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif)
    np.testing.assert_allclose(read_image(path).astype(int), rgb(shown), atol=6 if suffix == "jpg" else 0)


def test_16_bit_png_keeps_its_shades(tmp_path):
    values = np.array([[0, 257, 65535], [128, 129, 32896]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb(np.array([[0, 1, 255], [0, 1, 128]], np.uint8)))


def test_16_bit_colour_png_keeps_its_shades(tmp_path):
    values = np.array([[[0, 0x80FF, 0xFFFF], [0x1200, 0x3400, 0x5600]]], ">u2")

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + values.tobytes()))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    np.testing.assert_allclose(read_image(tmp_path / "a.png").astype(int), values.astype(int) / 257, atol=1)


def test_16_bit_tiff_and_pgm_keep_their_shades(tmp_path):
    values = np.array([[0, 257 * 7, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + values.astype(">u2").tobytes())
    for name in ("a.tiff", "a.pgm"):
        np.testing.assert_array_equal(read_image(tmp_path / name), rgb(np.array([[0, 7, 255]], np.uint8)))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_and_float_tiff_are_stretched_from_smallest_to_largest(tmp_path, dtype):
    values = np.array([[-100, 0, 100], [1000, 500, 900]], dtype)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    expected = np.rint((values + 100.0) / 1100 * 255).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tiff"), rgb(expected))


def test_a_constant_float_image_is_black_and_one_with_nan_is_an_error(tmp_path):
    Image.fromarray(np.full((2, 2), 3.5, np.float32)).save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff").max() == 0
    Image.fromarray(np.array([[1, np.nan]], np.float32)).save(tmp_path / "b.tiff")
    assert "NaN" in reason_of(tmp_path / "b.tiff")


def test_transparent_parts_lie_on_white(tmp_path):
    values = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    Image.fromarray(values).save(tmp_path / "rgba.png")
    expected = np.array([[[10, 20, 30], [255, 255, 255], [127, 127, 127]]])
    np.testing.assert_allclose(read_image(tmp_path / "rgba.png").astype(int), expected, atol=1)
    Image.fromarray(values[..., [0, 3]]).save(tmp_path / "la.png")
    np.testing.assert_allclose(read_image(tmp_path / "la.png")[0, :2, 0], [10, 255])


def test_palette_and_its_transparency_are_read_right(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image = image.convert("P")
    image.putdata([0, 1, 2])
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    image.save(tmp_path / "t.png", transparency=1)
    np.testing.assert_array_equal(read_image(tmp_path / "t.png"), [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]])
    image.save(tmp_path / "b.png", transparency=bytes([255, 255, 0]))
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), [[[255, 0, 0], [0, 255, 0], [255, 255, 255]]])


def test_a_clear_colour_of_grey_and_rgb_png_is_white(tmp_path):
    Image.fromarray(np.array([[0, 9]], np.uint8)).save(tmp_path / "l.png", transparency=9)
    Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8)).save(tmp_path / "c.png", transparency=(9, 9, 9))
    Image.fromarray(np.array([[0, 900]], np.uint16)).save(tmp_path / "i.png", transparency=900)
    assert read_image(tmp_path / "l.png")[0, :, 0].tolist() == [0, 255]
    assert read_image(tmp_path / "c.png")[0].tolist() == [[1, 2, 3], [255, 255, 255]]
    assert read_image(tmp_path / "i.png")[0, :, 0].tolist() == [0, 255]


def test_cmyk_and_one_bit_become_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert abs(read_image(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() <= 6
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png")[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_the_first_frame_of_an_animation_is_taken(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert abs(read_image(tmp_path / f"a.{suffix}").astype(int) - [255, 0, 0]).max() <= 10


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "gif"])
def test_a_truncated_file_is_an_error(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    read_image(path)
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert reason_of(path)


def test_a_decompression_bomb_is_an_error_before_it_is_unpacked(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side in (10_000, 60_000):  # Pillow warns of the first and refuses the second
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        assert "pixels" in reason_of(tmp_path / "a.png")


def test_a_bomb_is_an_error_when_warnings_are_off_too(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.warns(Image.DecompressionBombWarning):
        assert "more than 5 pixels" in reason_of(tmp_path / "a.png")


def test_postscript_under_another_name_never_reaches_ghostscript(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert "no image of a known format" in reason_of(tmp_path / "a.jpg")
    assert "EPS" not in FORMATS


def test_files_that_are_missing_empty_or_no_images_say_so(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    assert "no such file" in reason_of(tmp_path / "none.png")
    assert "0 bytes" in reason_of(tmp_path / "empty.png")
    assert "no image of a known format" in reason_of(tmp_path / "text.png")
    assert "directory" in reason_of(tmp_path / "folder.png")


def files(tmp_path, good: int, bad: int) -> Table:
    paths = []
    for i in range(good + bad):
        paths.append(tmp_path / f"{i}.png")
        if i < good:
            Image.fromarray(GREY).save(paths[-1])
        else:
            paths[-1].write_bytes(b"\x89PNG\r\n\x1a\n broken")
    names = [path.name for path in paths]
    return Table(names=names, labels=np.arange(good + bad) % 2, classes=["a", "b"], images=paths)


def test_unreadable_lists_index_and_reason_in_order(tmp_path):
    table = files(tmp_path, 6, 3)
    for workers in (1, 4, None):
        found = unreadable(table.images, workers)
        assert [index for index, _ in found] == [6, 7, 8]
        assert all(reason for _, reason in found)


def test_an_unreadable_image_stops_or_is_left_out_and_always_named(tmp_path):
    table = files(tmp_path, 6, 25)
    with pytest.raises(DataError) as caught:
        drop_unreadable(table, "error")
    first, *others = caught.value.problems
    assert "25 of 31 images cannot be read (20 are shown)" in first.text
    assert [problem.key for problem in others] == [str(path) for path in table.images[6:26]]
    left, skipped = drop_unreadable(table, "skip")
    assert left.names == table.names[:6]
    assert [name for name, _ in skipped] == table.names[6:]


def test_nothing_is_dropped_from_arrays_and_everything_unreadable_is_an_error(tmp_path):
    arrays = Table(names=["a"], labels=np.array([0]), classes=["x"], images=np.zeros((1, 2, 2), np.uint8))
    assert drop_unreadable(arrays, "error") == (arrays, [])
    with pytest.raises(DataError, match="none of 2 images"):
        drop_unreadable(files(tmp_path, 0, 2), "skip")
