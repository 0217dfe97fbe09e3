from __future__ import annotations

import numpy as np
import pytest

from tune.data.readers.arrays import Arrays
from tune.errors import DataError

IMAGES = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
LABELS = np.array([10, 9, 9, 10])


def save(tmp_path, **arrays) -> str:
    np.savez_compressed(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


def problems_of(file: str, **arguments) -> str:
    with pytest.raises(DataError) as caught:
        Arrays(file, **arguments).read()
    return "\n".join(problem.text for problem in caught.value.problems)


def test_images_and_labels_are_enough(tmp_path):
    table = Arrays(save(tmp_path, images=IMAGES, labels=LABELS)).read()
    assert table.classes == ["9", "10"]
    assert table.labels.tolist() == [1, 0, 0, 1]
    assert table.names == ["row 0", "row 1", "row 2", "row 3"]
    np.testing.assert_array_equal(table.images, IMAGES)


def test_optional_and_further_arrays_are_used(tmp_path):
    file = save(
        tmp_path,
        images=IMAGES[..., None],
        labels=np.array(["no", "yes", "no", "yes"]),
        names=np.array(list("abcd")),
        split=np.array(["train", "", "val", "test"]),
        group=np.array([1, 1, 2, 2]),
        weight=np.array([1, 2, 0, 1]),
        site=np.array([5, 6, 7, 8]),
    )
    table = Arrays(file, classes=["yes", "no"]).read()
    assert isinstance(table.images, np.ndarray)
    assert table.images.shape == (4, 3, 2)
    assert table.labels.tolist() == [1, 0, 1, 0]
    assert table.names == list("abcd")
    assert table.column("group").tolist() == [1, 1, 2, 2]
    assert table.column("site").tolist() == [5, 6, 7, 8]
    assert table.weights is not None
    assert table.weights.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"images": IMAGES}, "no array labels. It has: images"),
        ({"images": IMAGES / 255, "labels": LABELS}, "must be uint8 (0-255), not float64"),
        ({"images": np.zeros((4, 3, 5, 5), np.uint8), "labels": LABELS}, "move the channels to the end"),
        ({"images": IMAGES, "labels": LABELS[:3]}, "labels must have shape (4,)"),
        ({"images": IMAGES, "labels": LABELS / 2}, "whole numbers or texts"),
        ({"images": IMAGES, "labels": LABELS, "names": np.array(list("abca"))}, "different from each other"),
        ({"images": IMAGES, "labels": LABELS, "split": np.array(["train", "dev", "", ""])}, "not dev"),
        ({"images": IMAGES, "labels": LABELS, "weight": np.array([1, 1, np.inf, 1])}, "finite"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no pixel"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, text):
    assert text in problems_of(save(tmp_path, **arrays))


def test_pickled_objects_are_not_loaded(tmp_path):
    file = save(tmp_path, images=IMAGES, labels=np.array([print] * 4, dtype=object))
    assert "pickled objects are not loaded" in problems_of(file)


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    (tmp_path / "a.npz").write_text("hello")
    assert "no .npz file" in problems_of(str(tmp_path / "a.npz"))
    np.save(tmp_path / "b.npy", IMAGES)
    assert "single array" in problems_of(str(tmp_path / "b.npy"))
