"""A frozen network is asked once for each image, and nobody can tell from the numbers."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tune.cli.main import main
from tune.data import images
from tune.features.cache import Shelf

pytestmark = pytest.mark.filterwarnings("default")  # warnings of other packages go to run.log, as for a user

TINY = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "epochs=2", "batch_size=16"]
EXACT = ["precision=32-true", "data=synthetic", "data.rows=60", "backbone.input_size=32", "batch_size=16"]


class Here:
    """The command line in this process, in a folder and with a cache of its own."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys

    def __call__(self, *words, code=0):
        """What a command says on stderr."""
        assert main(list(words)) == code
        return self.capsys.readouterr().err

    def run(self, name, *words):
        """One run; its weights, its metrics by epoch, and what it said."""
        said = self("run", *words, f"name={name}")
        (folder,) = (self.folder / "outputs" / name).iterdir()
        with (folder / "metrics.csv").open() as file:
            metrics = [[float(value or "nan") for value in row.values()] for row in csv.DictReader(file)]
        return load_file(folder / "model.safetensors"), np.array(metrics), said

    def shards(self):
        return sorted((self.folder / "cache" / "tune" / "features").rglob("*.rows"))


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Here(tmp_path, capsys)


def assert_same(one, other, tolerance=1e-5):
    """Final weights within a tolerance of the largest value of each tensor, metrics of every epoch likewise."""
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        if tensor.is_floating_point():
            assert (tensor - other[0][name]).abs().max() <= tolerance * tensor.abs().max(), name
    assert np.allclose(one[1], other[1], rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    "words",
    [
        ["freeze=deep", "epochs=3", "lr=1e-2"],
        ["freeze=mid", "epochs=2", "optimizer=sgd", "lr=1e-2"],
        pytest.param(["freeze=deep", "epochs=3", "augment=mild", "lr=1e-2"], marks=pytest.mark.slow),
        ["freeze=deep", "epochs=4", "augment=flip", "cache.views=2", "lr=1e-2"],
        pytest.param(
            ["freeze=lp_ft", "freeze.head_epochs=1", "epochs=2", "optimizer=sgd", "lr=1e-2"], marks=pytest.mark.slow
        ),
        ["freeze=gradual", "freeze.parts=2", "freeze.head_epochs=1", "epochs=3", "optimizer=sgd", "lr=1e-2"],
    ],
    ids=["deep", "mid", "deep and augmented", "two views", "lp_ft", "gradual"],
)
def test_the_cache_changes_no_number(here, words):
    filled = here.run("filled", *EXACT, *words)
    assert "cache     empty" in filled[2]
    again = here.run("again", *EXACT, *words)
    assert "cache     full" in again[2]
    assert_same(filled, again)
    never = here.run("never", *EXACT, *words, "cache=never")
    assert "cache     not used" in never[2]
    assert_same(filled, never)


def test_views_repeat(here):
    """With one view all epochs see the same pixels, so at a rate that changes nothing all have the same loss."""
    still = ["freeze=deep", "augment=flip", "epochs=3", "optimizer=sgd", "lr=1e-12", *EXACT]
    one = here.run("one", *still, "cache.views=1")[1][:, 3]
    three = here.run("three", *still)[1][:, 3]
    assert np.ptp(one) < 1e-6 < np.ptp(three)


def test_a_full_cache_is_read_and_images_are_not(here, monkeypatch):
    folder = photographs(here.folder / "photos")
    words = [f"data.root={folder}", "backbone.input_size=32", "epochs=3", "pictures=false"]
    read = []
    monkeypatch.setattr(
        "tune.data.transforms.open_image", lambda path, real=images.open_image: read.append(path) or real(path)
    )
    here("run", *words)
    assert len(read) == 30  # once each, in three epochs
    first = here.shards()
    said = here("run", *words, "lr=3e-3")
    assert "cache     full: 30 images × 1,280" in said
    assert len(read) == 30 + 8  # the rows that are computed again before the others are believed
    here("run", *words, "cache=never")
    assert len(read) == 30 + 8 + 30  # what is looked at in every epoch is held in memory
    assert here.shards() == first


@pytest.mark.parametrize(
    ("word", "missing"),
    [
        ("precision=32-true", "empty"),
        ("data.fit=stretch", "empty"),
        ("backbone.input_size=48", "empty"),
        ("lr=1e-4", "full"),
        ("seed=3", "full"),
        ("regularize.dropout=0.5", "full"),
        ("data.split.seed=3", "full"),
    ],
)
def test_what_decides_the_numbers_misses_and_nothing_else_does(here, word, missing):
    folder = photographs(here.folder / "photos")
    words = [f"data.root={folder}", "data.fit=crop", "backbone.input_size=32", "epochs=1"]
    here("run", *words)
    kept = [each for each in words if each.split("=")[0] != word.split("=")[0]]
    assert f"cache     {missing}" in here("run", *kept, word, "--dry-run")


def test_one_changed_pixel_is_one_missing_row(here):
    folder = photographs(here.folder / "photos")
    words = [f"data.root={folder}", "backbone.input_size=32", "epochs=1"]
    here("run", *words)
    path = sorted(folder.rglob("*.png"))[3]
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert "cache     1 missing: 30 images" in here("run", *words, "--dry-run")


def test_images_are_decoded_once_and_again_when_they_change(here, monkeypatch):
    folder = photographs(here.folder / "photos")
    words = [f"data.root={folder}", "backbone.input_size=32", "epochs=1"]
    monkeypatch.setattr("tune.features.digests._SETTLED", 0.0)
    here("run", *words)
    decoded = []
    monkeypatch.setattr(
        "tune.data.images.open_image", lambda path, real=images.open_image: decoded.append(path) or real(path)
    )
    here("run", *words, "lr=1e-2")
    assert decoded == []
    path = sorted(folder.rglob("*.png"))[3]
    path.write_bytes(path.read_bytes()[:200])
    assert "1 of 30 images cannot be read" in here("run", *words, code=2)
    assert decoded == [path]


def test_a_cache_that_says_something_else_is_not_believed(here):
    words = ["freeze=deep", "epochs=2", *EXACT]
    honest = here.run("honest", *words)
    (path,) = here.shards()
    shelf = Shelf(path.parent, 1280, torch.float32, (path.parent / "key.json").read_text())
    items = shelf._read(path)[0]
    path.unlink()
    shelf.add(items, torch.ones(len(items), 1280))
    again = here.run("again", *words)
    assert "the cache does not hold what the network says now" in again[2]
    assert_same(honest, again)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["augment=mixup"], "mixup and cutmix mix images"),
        (["trainer=ddp", "trainer.accelerator=cpu"], "several processes share the rows"),
        (["cache.max_gb=1e-6"], "cache.max_gb is 1e-06"),
        (["freeze=full"], "nothing before the first layer that trains is frozen"),
    ],
)
def test_require_refuses_and_auto_says_why(here, words, why):
    refused = here("run", *TINY, *words, "cache=require", code=2)
    assert why in refused
    assert not (here.folder / "outputs").exists()
    if "full" not in words[0]:
        assert why in here("run", *TINY, *words, "--dry-run")


def test_what_the_run_kept_stands_in_its_record(here):
    here("run", *TINY)
    (path,) = here.folder.glob("outputs/*/*/run.json")
    record = json.loads(path.read_text())
    assert record["cache"].startswith("empty: 60 images × 1,280")


def test_the_verb_lists_fills_checks_and_removes(here):
    assert "0 keys" in here("cache", "ls")
    here("cache", "build", *TINY, "augment=flip")
    assert "cache     full: 22 images + 2 views of 38 × 1,280" in here("run", *TINY, "augment=flip")
    before = here.shards()
    assert len(before) == 3
    assert "3 keys" in here("cache", "ls")
    assert "views" not in here("cache", "verify")
    before[0].write_bytes(b"")
    here("cache", "verify", code=4)
    here("cache", "verify")
    assert here.shards() == before[1:]
    assert "no key begins so" in here("cache", "rm", "zz", code=2)
    here("cache", "rm", before[1].parent.name[:8])
    assert here.shards() == before[2:]
    here("cache", "rm", "all")
    assert here.shards() == []
    assert "say which" in here("cache", "rm", code=2)


def test_a_cache_that_cannot_be_written_costs_time_only(here):
    (here.folder / "file").write_text("")
    words = ["freeze=deep", "epochs=2", *EXACT]
    stopped = here.run("stopped", *words, f"cache.dir={here.folder / 'file'}")
    assert "cannot be used: File exists" in stopped[2]
    assert_same(stopped, here.run("kept", *words))


def test_rows_that_cannot_be_kept_are_computed_in_every_epoch(here):
    folder = here.folder / "cache" / "tune"
    folder.mkdir(parents=True)
    (folder / "features").write_text("")  # nothing can be written below a file, not by root either
    words = ["freeze=deep", "epochs=2", "augment=flip", *EXACT]
    stopped = here.run("stopped", *words)
    (log,) = here.folder.glob("outputs/stopped/*/run.log")
    assert "the cache cannot be written, the run goes on without" in log.read_text()
    (folder / "features").unlink()
    assert_same(stopped, here.run("kept", *words))


def test_a_dry_run_leaves_no_key(here):
    here("run", *TINY, "--dry-run")
    assert "0 keys" in here("cache", "ls")


def test_views_that_are_missing_are_said(here):
    here("run", *TINY, "augment=flip", "cache.views=1")
    assert "cache     38 missing: 22 images + 2 views of 38" in here("run", *TINY, "augment=flip", "--dry-run")


def test_the_folder_of_the_cache_can_be_named(here):
    here("run", *TINY, "cache.dir=elsewhere")
    assert here.shards() == []
    assert "1 keys" in here("cache", "ls", "--dir", "elsewhere")
    assert main(["cache", "ls", "--dir", "elsewhere", "--json"]) == 0
    (entry,) = json.loads(here.capsys.readouterr().out.splitlines()[-1])
    assert entry["about"] == "tf_efficientnet_lite0 up to blocks.6.0"


def photographs(folder):
    """30 noisy pictures of two classes."""
    draw = np.random.default_rng(0)
    for number in range(30):
        kind = folder / ("cat", "dog")[number % 2]
        kind.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 200, (40, 40, 3), dtype=np.uint8) + np.uint8(50 * (number % 2))
        Image.fromarray(pixels).save(kind / f"{number}.png")
    return folder
