"""What `tune doctor` says of a folder of photos in which a file or two are not as the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune.cli.main import main
from tune.train.doctor.checks import CHECKS

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

WORDS = ["data.root=photos", "backbone=lenet", "freeze=full", "epochs=1", "batch_size=8", "lr=3e-3"]


@pytest.fixture
def photos(elsewhere):
    """Two classes of 15 photos."""
    draw = np.random.default_rng(0)
    for k, name in enumerate(("cat", "dog")):
        Path("photos", name).mkdir(parents=True)
        for number in range(15):
            pixels = draw.integers(90 * k, 90 * k + 80, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path("photos", name, f"{number}.png"))
    return Path("photos")


@pytest.fixture
def ask(photos, capsys):
    """`tune doctor --quick --json`: what it found, by check."""

    def go(*words: str) -> dict[str, list[dict]]:
        main(["doctor", "--quick", "--json", *WORDS, *words])
        answer = json.loads(capsys.readouterr().out.splitlines()[-1])
        return {name: [each for each in answer["findings"] if each["check"] == name] for name in _names(answer)}

    return go


def _names(answer: dict) -> dict[str, None]:
    return dict.fromkeys(each["check"] for each in answer["findings"])


def failed(found: dict[str, list[dict]]) -> list[dict]:
    return [each for some in found.values() for each in some if each["status"] == "FAIL"]


@pytest.mark.parametrize("mode", ["error", "skip"])
def test_a_broken_file_is_told_once_and_everything_else_is_looked_at(ask, photos, mode):
    (photos / "cat" / "broken.jpg").write_bytes(b"no image")
    found = ask(f"data.unreadable={mode}", "--skip", "overfit,stable", "--picture", "batch.png")
    (line,) = found["images"]
    assert line["text"].startswith("1 of 31 images cannot be read: cat/broken.jpg")
    assert line["status"] == {"error": "FAIL", "skip": "WARN"}[mode]
    assert ("data.unreadable=skip" in line["do"]) == (mode == "error")
    assert failed(found) == [line][: mode == "error"]
    assert found.keys() >= CHECKS.keys() - {"overfit", "stable"}
    assert [each["status"] for each in found["classes"]] == ["PASS"]
    assert Path("batch.png").exists()


def test_without_a_cache_copies_are_found_and_the_broken_file_stays_out(ask, photos):
    (photos / "cat" / "broken.jpg").write_bytes(b"no image")
    (photos / "cat" / "copy.png").write_bytes((photos / "cat" / "3.png").read_bytes())
    found = ask("cache=never", "data.unreadable=skip", "--only", "images,duplicates,optimizer,overfit")
    assert "cat/copy.png = cat/3.png" in found["duplicates"][0]["text"]
    assert failed(found) == found["duplicates"]


def test_what_cannot_be_looked_at_is_said(ask, photos):
    for path in photos.glob("*/*.png"):
        path.write_bytes(b"no image")
    found = ask("--only", "images,loss,device", "--picture", "batch.png")
    assert {name: some[0]["status"] for name, some in found.items()} == {
        "data": "FAIL",
        "device": "PASS",
        "images": "SKIP",
        "loss": "SKIP",
    }
    assert found["loss"][0]["text"] == "not looked at: the data cannot be read"


def test_one_odd_file_among_many_is_named_with_what_to_do_about_it(ask, photos):
    dog = photos / "dog"
    Image.fromarray(np.full((32, 40), 99, dtype=np.uint8)).save(dog / "grey.png")
    (dog / "copy.png").write_bytes((photos / "cat" / "3.png").read_bytes())
    words = ["--only", "images,duplicates,loss"]
    found = ask(*words)
    assert "32 readable; 31 RGB, 1 L (dog/grey.png); " in found["images"][0]["text"]
    contrary = found["duplicates"][-1]
    assert contrary["text"].startswith("1 image has a copy with another label: ")
    assert "which label is right" in contrary["do"]
    assert not any("COLUMN" in each["do"] for each in found["duplicates"]), "a folder has no columns"
    assert found["loss"][0]["text"].startswith("0 for right answers, 0.693 for even ")

    Image.new("RGB", (6, 6)).save(dog / "tiny.png")
    (tiny,) = ask(*words)["images"]
    assert tiny["text"] == "1 image is under 8 pixels, the network takes 32: dog/tiny.png"
    assert "input_size" not in tiny["do"]
    for path in (photos / "cat").glob("1*.png"):
        Image.new("RGB", (6, 6)).save(path)
    (tiny,) = ask(*words)["images"]
    assert "8 pixels" in tiny["text"]
    assert "backbone.input_size=32" in tiny["do"]


def test_a_rate_that_is_still_to_be_found_is_not_judged(ask):
    found = ask("lr=auto", "--only", "update,rate,trained,loss")
    assert {name: some[0]["status"] for name, some in found.items()} == {
        "loss": "PASS",
        "trained": "PASS",
        "update": "SKIP",
        "rate": "SKIP",
    }
    assert all("lr=auto" in found[name][0]["text"] for name in ("update", "rate"))


def test_a_check_that_is_none_is_told_with_the_nearest_and_without_torch(elsewhere):
    command = [sys.executable, "-X", "importtime", "-m", "tune", "doctor", "--only", "updte"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no check updte. Did you mean update?" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "tune.train.doctor.checks" in imported
    assert not imported & {"torch", "timm", "pytorch_lightning"}
