"""`tune init`: a folder that runs as soon as photographs are in it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tune.cli.main import main
from tune.config import files

pytestmark = pytest.mark.filterwarnings("default")
SMALL = ["backbone.input_size=32", "epochs=1"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def draw(folder):
    """Twenty photographs of each of two classes."""
    numbers = np.random.default_rng(0)
    for colour, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            pixels = numbers.integers(0, 99, (24, 24, 3), dtype=np.uint8)
            pixels[..., 2 * colour] += 150
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def trained(capsys, *words):
    assert main(["run", "+experiment=mine", *SMALL, *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_photographs_put_into_the_folder_can_be_trained_on_at_once(tmp_path, monkeypatch, capsys):
    assert main(["init", "pets", "--classes", "cat, dog"]) == 0
    assert "cd pets && tune run +experiment=mine" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "pets" / "photos").iterdir()) == ["cat", "dog"]
    draw(tmp_path / "pets" / "photos")
    monkeypatch.chdir(tmp_path / "pets")
    assert main(["validate", "mine"]) == 0
    assert trained(capsys)["status"] == "done"
    assert len(list((tmp_path / "pets" / "outputs" / "mine").iterdir())) == 1


def test_photographs_that_lie_elsewhere_are_named_by_their_path(tmp_path, monkeypatch, capsys):
    draw(tmp_path / 'Ada\'s "pets"')
    assert main(["init", "work", "--from", 'Ada\'s "pets"', "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["root"] == str(tmp_path / 'Ada\'s "pets"')
    assert not (tmp_path / "work" / "photos").exists()
    monkeypatch.chdir(tmp_path / "work")
    assert main(["run", "+experiment=mine", *SMALL, "--dry-run"]) == 0
    assert "folder  25 train" in capsys.readouterr().err


def test_photographs_inside_the_folder_are_named_from_there(tmp_path):
    draw(tmp_path / "images")
    assert main(["init", ".", "--from", "images"]) == 0
    assert files.read(tmp_path / "conf/experiment/mine.yaml").data["data"]["root"] == "images"


@pytest.mark.parametrize("taken", ["conf/experiment/mine.yaml", "README.txt"])
def test_nothing_is_overwritten_and_then_nothing_is_written(tmp_path, taken, capsys):
    path = tmp_path / "pets" / taken
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    assert main(["init", "pets"]) == 2
    assert f"pets/{taken}" in capsys.readouterr().err
    assert [each for each in (tmp_path / "pets").rglob("*") if each.is_file()] == [path]
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pets", "--from", "nowhere"], "there is no folder nowhere"),
        (["pets", "--classes", "a,../b"], "cannot be the name of a folder"),
        (["file.txt"], "is there already"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path, words, said, capsys):
    (tmp_path / "file.txt").write_text("")
    assert main(["init", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "pets").exists()
