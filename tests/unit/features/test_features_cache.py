from __future__ import annotations

import multiprocessing
import os
import random
import time
import warnings

import numpy as np
import pytest
import torch

from tune.features.cache import FeatureCache, default_folder, remove
from tune.features.digests import array_digests, file_digests

KEY = {"prefix": "a", "transform": "b"}


def rows_of(items: list[str], numel: int = 6) -> torch.Tensor:
    """What an item's row must hold, worked out from its name alone."""
    return torch.stack([torch.arange(numel) + 100.0 * int(item) for item in items])


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path, max_gb=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_added_is_found_by_item_in_any_order(cache, dtype):
    shelf = cache.shelf(KEY, 6, dtype)
    assert shelf.find(["1", "2"]).missing == [0, 1]
    shelf.add(["1", "2", "3"], rows_of(["1", "2", "3"]))
    shelf.add(["7", "8"], rows_of(["7", "8"]))
    items = ["8", "2", "5", "7", "1"]
    rows = FeatureCache(cache.folder.parent, 1).shelf(KEY, 6, dtype).find(items)
    assert rows.missing == [2]
    there = torch.tensor([4, 0, 3, 1, 4])
    taken = rows.take(there)
    assert taken.dtype == dtype
    assert torch.equal(taken, rows_of([items[i] for i in there]).to(dtype))


def test_every_part_of_a_key_counts(cache):
    cache.shelf(KEY, 6, torch.float32).add(["1"], rows_of(["1"]))
    for other in ({**KEY, "prefix": "c"}, {**KEY, "view": 1}):
        assert cache.shelf(other, 6, torch.float32).find(["1"]).missing == [0]
    assert cache.shelf(KEY, 6, torch.bfloat16).find(["1"]).missing == [0]
    assert cache.shelf(KEY, 7, torch.float32).find(["1"]).missing == [0]
    assert cache.shelf(dict(reversed(KEY.items())), 6, torch.float32).find(["1"]).missing == []


def test_a_hundred_flipped_bits_and_truncations_are_all_found(cache):
    shelf = cache.shelf(KEY, 6, torch.float32)
    items = [str(i) for i in range(20)]
    draw = random.Random(0)
    for attempt in range(100):
        shelf.add(items, rows_of(items))
        (path,) = shelf.folder.glob("*.rows")
        whole = bytearray(path.read_bytes())
        if attempt % 2:
            whole[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        else:
            del whole[draw.randrange(len(whole)) :]
        path.write_bytes(whole)
        with pytest.warns(UserWarning, match="is broken; its rows are computed again"):
            assert shelf.find(items).missing == list(range(20))
        assert not path.exists()


def test_verify_names_what_is_broken(cache):
    shelf = cache.shelf(KEY, 6, torch.float32)
    shelf.add(["1"], rows_of(["1"]))
    shelf.add(["2"], rows_of(["2"]))
    path = next(shelf.folder.glob("*.rows"))
    path.write_bytes(b"")
    assert shelf.verify() == [path]
    assert shelf.verify() == []


def _fill(folder, seed):
    """Fill one key in an order of one's own, a few rows at a time, and look at everything after each step."""
    shelf = FeatureCache(folder, 1).shelf(KEY, 6, torch.float32)
    items = [str(i) for i in range(60)]
    random.Random(seed).shuffle(items)
    for start in range(0, 60, 5):
        rows = shelf.find(items)
        wanted = [items[i] for i in rows.missing if i < start + 5]
        if wanted:
            shelf.add(wanted, rows_of(wanted))
        rows = shelf.find(items)
        there = (rows.part_of >= 0).nonzero().flatten()
        assert torch.equal(rows.take(there), rows_of([items[i] for i in there]))


def test_four_processes_fill_one_key_without_a_wrong_row(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=_fill, args=(tmp_path, n)) for n in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside torch's threads; the children use none
        for process in processes:
            process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    items = [str(i) for i in range(60)]
    rows = FeatureCache(tmp_path, 1).shelf(KEY, 6, torch.float32).find(items)
    assert rows.missing == []
    assert torch.equal(rows.take(torch.arange(60)), rows_of(items))


def test_room_is_made_by_removing_what_was_not_used_for_longest(tmp_path):
    cache = FeatureCache(tmp_path, max_gb=30e-6)  # 30,000 bytes
    shelves = [cache.shelf({"number": n}, 1000, torch.float32) for n in range(4)]
    shelves[3].add(["1"], torch.zeros(1, 1000))
    for number, shelf in enumerate(shelves[:3]):
        shelf.add(["1", "2"], torch.zeros(2, 1000))  # 8,000 bytes and some
        os.utime(shelf.folder / "key.json", (number, number))
    assert [entry.parts["number"] for entry in cache.entries()] == [3, 2, 1, 0]
    shelves[0].find(["1"])  # used again: no longer the oldest
    cache.make_room(8_000, shelves[3].folder)
    assert sorted(entry.parts["number"] for entry in cache.entries()) == [0, 2, 3]
    with pytest.raises(OSError, match="are more than"):
        cache.make_room(31_000, shelves[3].folder)
    assert sorted(entry.parts["number"] for entry in cache.entries()) == [0, 2, 3]


def test_rows_that_are_in_use_outlive_their_removal(cache):
    shelf = cache.shelf(KEY, 6, torch.float32)
    shelf.add(["1"], rows_of(["1"]))
    rows = shelf.find(["1"])
    remove(cache.entries()[0])
    assert torch.equal(rows.take(torch.tensor([0])), rows_of(["1"]))
    assert cache.entries() == []


def test_the_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "tune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "tune"


@pytest.fixture
def files(tmp_path):
    """Two files that were changed long ago, as far as can be told: ctime cannot be set."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode() * 1000)
    return [folder / "a", folder / "b"]


def test_a_digest_is_noted_once_the_file_has_settled(files, tmp_path, monkeypatch):
    monkeypatch.setattr("tune.features.digests._SETTLED", 0.05)
    time.sleep(0.1)
    first = file_digests(files, tmp_path)
    (note,) = (tmp_path / "digests").iterdir()
    noted = note.read_text()
    assert all(digest in noted for digest in first)
    # Were the files read again, the false digest would not be believed.
    note.write_text(noted.replace(first[0], "0" * 64))
    assert file_digests(files, tmp_path) == ["0" * 64, first[1]]
    assert file_digests(files, tmp_path, verify=True) == first


def test_a_change_of_one_byte_is_seen_with_size_and_mtime_as_before(files, tmp_path, monkeypatch):
    monkeypatch.setattr("tune.features.digests._SETTLED", 0.05)
    time.sleep(0.1)
    before = file_digests(files, tmp_path)
    stat = files[0].stat()
    content = bytearray(files[0].read_bytes())
    content[500] ^= 1
    files[0].write_bytes(content)
    os.utime(files[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = file_digests(files, tmp_path)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_file_just_written_is_not_noted(files, tmp_path):
    assert len(set(file_digests(files, tmp_path))) == 2
    assert not (tmp_path / "digests").exists()


def test_a_broken_note_does_no_harm(files, tmp_path, monkeypatch):
    monkeypatch.setattr("tune.features.digests._SETTLED", 0.05)
    time.sleep(0.1)
    before = file_digests(files, tmp_path)
    (note,) = (tmp_path / "digests").iterdir()
    for text in ("", "[]", "{", '{"a": 1}'):
        note.write_text(text)
        assert file_digests(files, tmp_path) == before


def test_an_array_s_digest_knows_pixels_shape_and_type():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    one, two = array_digests(images)
    assert one != two
    assert array_digests(images.reshape(2, 4, 3))[0] != one
    assert array_digests(images.view(np.int8))[0] != one
    assert array_digests(images.copy())[0] == one
