from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from PIL import Image

from tune.train.sweep.inheritance import PICTURE, lines
from tune.train.sweep.leaderboard import Row


class Sweep:
    """Rows of a sweep with what their run.json says of an attack."""

    def __init__(self, folder):
        self.folder, self.rows = folder, []

    def add(self, freeze, success, seed=0, case="", accuracy=0.8, attacked=200, status="done"):
        number = len(self.rows) + 1
        run_dir = self.folder / str(number)
        run_dir.mkdir()
        told = {"attack": {"rows": attacked, "clean_accuracy": accuracy}}
        (run_dir / "run.json").write_text(json.dumps(told))
        config = {"freeze": freeze, "seed": seed, "data": {}}
        metrics = {"test/accuracy": accuracy} | {f"test/attack_success@{eps:g}": p for eps, p in success.items()}
        choices = {"freeze": freeze} | ({"case": case} if case else {})
        words = [f"freeze={freeze}", f"seed={seed}"]
        self.rows.append(Row(number, words, config, str(number), choices, run_dir, status, "", 1.0, metrics))
        return self

    def lines(self):
        return lines(self.rows, self.folder)


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Sweep(tmp_path)


def test_success_is_told_by_method_in_the_order_of_the_grid_and_by_eps(sweep):
    sweep.add("deep", {8: 0.9, 2: 0.3}, case="deep").add("mid", {8: 0.95, 2: 0.2}, case="mid")
    sweep.add("full", {8: 0.4, 2: 0.1}, case="full", accuracy=0.9)
    told = sweep.lines()
    assert told[0] == "attack success at 2, 8 /255"
    assert [line.split() for line in told[1:4]] == [
        ["deep", "0.300", "0.900", "test/accuracy", "0.800"],
        ["mid", "0.200", "0.950", "test/accuracy", "0.800"],
        ["full", "0.100", "0.400", "test/accuracy", "0.900"],
    ]


def test_the_first_and_the_last_are_compared_at_the_largest_eps(sweep):
    told = sweep.add("deep", {2: 0.5, 8: 0.9}).add("full", {2: 0.5, 8: 0.4}, accuracy=0.9).lines()
    error = math.sqrt(0.9 * 0.1 / 160 + 0.4 * 0.6 / 180)  # 0.8 and 0.9 of 200 rows were right
    assert told[3] == f"  freeze=deep → freeze=full at 8/255: -0.500 ± {error:.3f}: less is inherited"


def test_a_difference_of_less_than_two_standard_errors_is_not_clear(sweep):
    assert sweep.add("deep", {8: 0.9}).add("full", {8: 0.85}).lines()[3].endswith("no clear difference")


def test_seeds_are_averaged_and_their_rows_added(sweep):
    for seed, deep, full in ((0, 0.8, 0.6), (1, 0.9, 0.7)):
        sweep.add("deep", {8: deep}, seed).add("full", {8: full}, seed)
    told = sweep.lines()
    assert "0.850" in told[1]
    error = math.sqrt(0.85 * 0.15 / 320 + 0.65 * 0.35 / 320)
    assert f"-0.200 ± {error:.3f}" in told[3]


def test_the_picture_is_one(sweep):
    told = sweep.add("deep", {2: 0.2, 8: 0.9}).add("full", {2: 0.1, 8: 0.4}).lines()
    assert told[-1] == f"  picture   {PICTURE}"
    with Image.open(sweep.folder / PICTURE) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("L").getcolors()) > 10  # lines and letters, not an empty page


def test_a_sweep_without_attacks_or_with_one_method_says_and_draws_nothing(sweep):
    assert sweep.add("deep", {}).add("full", {}).lines() == []
    assert Sweep.lines(sweep.add("deep", {8: 0.5}, seed=3).add("full", {8: 0.5}, status="failed")) == []
    assert not (sweep.folder / PICTURE).exists()


def test_neither_it_nor_the_picture_imports_torch():
    code = "import sys; import tune.train.sweep.inheritance, matplotlib.figure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
