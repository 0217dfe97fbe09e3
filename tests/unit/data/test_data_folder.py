from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tune.data.readers.folder import Folder
from tune.errors import DataError


def make(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def problems_of(root: Path, **arguments) -> str:
    with pytest.raises(DataError) as caught:
        Folder(str(root), **arguments).read()
    return "\n".join(f"{problem.key} {problem.text}" for problem in caught.value.problems)


def test_a_folder_is_a_class_and_its_images_are_found_at_any_depth(tmp_path):
    make(tmp_path, "cat/b.JPG", "cat/deep/er/a.png", "dog/c.tiff")
    table = Folder(str(tmp_path)).read()
    assert table.classes == ["cat", "dog"]
    assert table.names == ["cat/b.JPG", "cat/deep/er/a.png", "dog/c.tiff"]
    assert table.labels.tolist() == [0, 0, 1]
    assert table.images[1] == tmp_path / "cat/deep/er/a.png"
    assert table.split is None
    assert table.notes == ()


@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL"])
def test_train_val_and_test_folders_are_splits(tmp_path, val):
    make(tmp_path, "train/cat/a.png", "train/dog/a.png", f"{val}/cat/a.png", "test/dog/b.png")
    table = Folder(str(tmp_path)).read()
    assert table.classes == ["cat", "dog"]
    assert table.split is not None
    assert dict(zip(table.names, table.split.tolist(), strict=True)) == {
        "train/cat/a.png": "train",
        "train/dog/a.png": "train",
        f"{val}/cat/a.png": "val",
        "test/dog/b.png": "test",
    }


def test_train_is_a_class_when_it_holds_images_itself(tmp_path):
    table = Folder(str(make(tmp_path, "train/a.png", "bus/b.png"))).read()
    assert table.classes == ["bus", "train"]
    assert table.split is None


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    make(tmp_path, "cat/a.png", "cat/._a.png", ".git/x.png", "dog/b.png", "dog/.cache/c.png", "__MACOSX/cat/a.png")
    assert Folder(str(tmp_path)).read().names == ["cat/a.png", "dog/b.png"]


def test_what_is_left_out_is_noted(tmp_path):
    make(tmp_path, "cat/a.png", "dog/b.png", "dog/c.heic", "dog/d.txt", "dog/e.heic")
    (tmp_path / "empty").mkdir()
    others, empty = Folder(str(tmp_path)).read().notes
    assert "3 files" in others
    assert ".heic 2, .txt 1" in others
    assert "empty" in empty


def test_a_class_folder_without_a_known_image_is_an_error(tmp_path):
    make(tmp_path, "cat/a.png", "dog/b.heic")
    assert "class folder dog holds no image, only .heic" in problems_of(tmp_path)
    assert Folder(str(tmp_path), extensions=["png", ".HEIC"]).read().classes == ["cat", "dog"]


def test_links_in_a_circle_end(tmp_path):
    make(tmp_path, "cat/a.png", "dog/b.png", "dog/in/c.png")
    (tmp_path / "dog/in/up").symlink_to(tmp_path / "dog")
    (tmp_path / "dog/in/top").symlink_to(tmp_path)
    (tmp_path / "cat/other").symlink_to(tmp_path / "dog/in")
    table = Folder(str(tmp_path)).read()
    assert "dog/in/c.png" in table.names
    assert len(table) < 20


def test_a_linked_class_folder_is_read(tmp_path):
    make(tmp_path, "data/cat/a.png", "elsewhere/b.png")
    (tmp_path / "data/dog").symlink_to(tmp_path / "elsewhere")
    assert Folder(str(tmp_path / "data")).read().names == ["cat/a.png", "dog/b.png"]


def test_a_missing_folder_says_where_it_was_looked_for_and_what_is_near(tmp_path, monkeypatch):
    make(tmp_path, "photos/cat/a.png")
    text = problems_of(tmp_path / "photo" / "deeper")
    assert f"data.root there is no folder {tmp_path}/photo/deeper" in text
    assert f"Did you mean {tmp_path}/photos?" in text
    monkeypatch.chdir(tmp_path)
    assert f"there is no folder {tmp_path}/fotos" in problems_of(Path("fotos"))


def test_no_folder_given_says_which_key_to_set():
    with pytest.raises(DataError, match=r"data\.root.*data\.root=DIR"):
        Folder().read()


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (["a.png", "b.png"], "2 images lie directly in"),
        (["cat/a.png", "dog/b.png", "stray.png"], "1 images lie directly in"),
        (["only/cat/a.png", "only/dog/b.png"], "Did you mean"),
        (["train/cat/a.png", "train/dog/b.png", "extra/c.png"], "folder extra stands beside train"),
        (["train/cat/a.png", "val/a.png", "val/dog/b.png"], "1 images lie directly in"),
        (["train/cat/a.png", "val/cat/a.png", "valid/cat/a.png"], "two folders for one part: val, valid"),
        (["notes.txt"], "no image in"),
    ],
)
def test_a_folder_of_another_form_is_refused(tmp_path, files, text):
    assert text in problems_of(make(tmp_path, *files))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    assert "is a file, not a folder" in problems_of(make(tmp_path, "a.zip") / "a.zip")


def test_classes_gives_the_order_of_the_ids(tmp_path):
    make(tmp_path, "bad/a.png", "good/b.png")
    table = Folder(str(tmp_path), classes=["good", "bad"]).read()
    assert table.classes == ["good", "bad"]
    assert table.labels.tolist() == [1, 0]
    assert "in no row: ugly; not named: bad" in problems_of(tmp_path, classes=["good", "ugly"])


def test_reading_the_same_folder_twice_gives_the_same_table(tmp_path):
    make(tmp_path, *(f"{'abc'[i % 3]}/{i * 7919 % 101}.png" for i in range(60)))
    one, two = Folder(str(tmp_path)).read(), Folder(str(tmp_path)).read()
    assert one.names == two.names
    assert one.fingerprint() == two.fingerprint()


def test_opening_costs_less_than_a_tenth_of_a_millisecond_a_file(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(2000):
            (tmp_path / name / f"{i}.png").touch()
    start = time.process_time()
    table = Folder(str(tmp_path)).read()
    table.fingerprint()
    assert time.process_time() - start < 0.4
    assert np.bincount(table.labels).tolist() == [2000, 2000]
