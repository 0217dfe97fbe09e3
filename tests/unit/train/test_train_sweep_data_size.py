from __future__ import annotations

import csv
import math

import pytest

from tune.train.sweep.data_size import lines
from tune.train.sweep.leaderboard import Row

TIMM = {"_target_": "tune.models.backbones.timm_model.TimmBackbone", "name": "efficientnet_lite0"}
LENET = {"_target_": "tune.models.backbones.lenet.LeNet"}


class Sweep:
    """Rows of a sweep over shares, with their predictions: right on the first rows, or on the last."""

    def __init__(self, folder):
        self.folder, self.rows = folder, []

    def add(
        self, share, accuracy, seed=0, case="", backbone=TIMM, words=(), tested=1000, status="done", lr=0.1, first=True
    ):
        number = len(self.rows) + 1
        split = {} if share is None else {"fraction": share}
        config = {"lr": lr, "seed": seed, "backbone": backbone, "data": {"split": split}}
        overrides = [*words, f"seed={seed}", *([] if share is None else [f"data.split.fraction={share}"])]
        run_dir = self.folder / str(number)
        (run_dir / "predictions").mkdir(parents=True)
        right = round(accuracy * tested)
        with (run_dir / "predictions" / "test.csv").open("w", newline="") as file:
            write = csv.writer(file).writerow
            write(["row", "path", "label", "predicted", "p_a", "p_b"])
            for row in range(tested):
                is_right = row < right if first else row >= tested - right
                write([row, f"{row}.png", "a", "a" if is_right else "b", 0.5, 0.5])
        metrics = {"test/accuracy": accuracy}
        choices = {"case": case} if case else {}
        self.rows.append(Row(number, overrides, config, str(number), choices, run_dir, status, "", 1.0, metrics))
        return self


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


def test_one_seed_is_judged_by_the_rows_gained_and_lost(sweep):
    told = lines(sweep.add(0.25, 0.7).add(0.5, 0.8).add(1.0, 0.85, first=False).rows)
    assert told[0] == "test/accuracy by share of the training rows"
    assert "0.25: 0.700  0.5: 0.800  1: 0.850" in told[1]
    # 800 of 1,000 rows were right, then another 850: the first 150 are lost and the last 200 gained.
    differences = [-1] * 150 + [0] * 650 + [1] * 200
    mean = sum(differences) / 1000
    error = math.sqrt(sum((each - mean) ** 2 for each in differences) / 1000 / 1000)
    assert f"0.5 → 1 brought +0.050 ± {error:.3f}: more rows would pay" in told[1]


def test_a_gain_of_less_than_two_standard_errors_is_no_sign(sweep):
    told = lines(sweep.add(0.5, 0.83).add(1.0, 0.85, first=False).rows)
    assert "+0.020" in told[1]
    assert "no sign that more rows would pay" in told[1]


def test_seeds_are_averaged_and_paired_and_the_larger_error_counts(sweep):
    for seed, half, whole in ((0, 0.60, 0.80), (1, 0.80, 0.81), (2, 0.70, 0.88)):
        sweep.add(0.5, half, seed).add(1.0, whole, seed)
    gains = [0.20, 0.01, 0.18]
    mean = sum(gains) / 3
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / 2 / 3)
    (_, told) = lines(sweep.rows)
    assert f"0.5: 0.700  1: 0.830   0.5 → 1 brought +0.130 ± {error:.3f}: more rows would pay" in told


def test_the_share_compared_is_half_the_largest_or_the_next_below(sweep):
    assert "0.25 → 0.6" in lines(sweep.add(0.25, 0.5).add(0.5, 0.6).add(0.6, 0.7).rows)[1]


def test_scratch_overtakes_where_it_stays_ahead(sweep):
    for share, deep, full, scratch in ((0.25, 0.6, 0.8, 0.65), (0.5, 0.65, 0.85, 0.6), (1.0, 0.7, 0.9, 0.8)):
        sweep.add(share, deep, case="deep", lr=1)
        sweep.add(share, full, case="full", lr=2)
        sweep.add(share, scratch, case="scratch", lr=3, backbone={**TIMM, "weights": "none"})
    told = lines(sweep.rows)
    assert [line.split()[0] for line in told[1:4]] == ["deep", "full", "scratch"]
    assert told[4] == "  scratch, from random weights, overtakes: deep at 1, full not within these rows"


def test_a_network_without_weights_is_scratch_too_and_methods_are_named_by_their_words(sweep):
    for share in (0.5, 1.0):
        sweep.add(share, 0.5, words=["backbone=efficientnet_lite0"])
        sweep.add(share, 0.6, words=["backbone=lenet"], backbone=LENET)
    told = lines(sweep.rows)
    assert told[3] == "  backbone=lenet, from random weights, overtakes: backbone=efficientnet_lite0 at 0.5"


def test_trials_that_are_not_done_do_not_count(sweep):
    assert lines(sweep.add(0.5, 0.5).add(1.0, 0.6, status="failed").rows) == []


def test_other_sweeps_say_nothing(sweep):
    assert lines(sweep.add(None, 0.5, lr=1).add(None, 0.6, lr=2).rows) == []
