from __future__ import annotations

import csv
import io
import math

import pytest

from tune.report.sweep import chosen
from tune.train.sweep.leaderboard import Row, ranked, summary, table


def row(
    number: int, lr: float, seed: int = 0, split: int = 0, accuracy: float | None = None, status: str = "done"
) -> Row:
    config = {"lr": lr, "seed": seed, "data": {"root": "x", "split": {"seed": split, "val": 0.2}}}
    overrides = ["+experiment=x", f"lr={lr}", f"seed={seed}", f"data.split.seed={split}"]
    return Row(number, overrides, config, f"key{number}", {}, None, status, "", 1.0, {"val/accuracy": accuracy})


def test_trials_that_differ_only_in_seeds_share_a_line():
    rows = [row(1, 0.1, 0, 0, 0.8), row(2, 0.1, 1, 0, 0.9), row(3, 0.1, 0, 1, 0.7), row(4, 0.2, 0, 0, 0.6)]
    lines = ranked(rows, "val/accuracy", maximize=True)
    assert [[r.number for r in line.rows] for line in lines] == [[1, 2, 3], [4]]
    assert [line.label for line in lines] == ["lr=0.1", "lr=0.2"]


def test_mean_and_deviation_are_those_of_the_formula():
    values = [0.80, 0.90, 0.70]
    mean = sum(values) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    (line,) = ranked([row(i, 0.1, i, 0, value) for i, value in enumerate(values, 1)], "val/accuracy", maximize=True)
    assert line.text("val/accuracy") == f"{mean:.3f} ± {deviation:.3f}"


@pytest.mark.parametrize(("maximize", "order"), [(True, [2, 3, 1, 4]), (False, [1, 3, 2, 4])])
def test_best_line_comes_first_and_lines_without_a_result_last(maximize, order):
    rows = [row(1, 0.1, accuracy=0.2), row(2, 0.2, accuracy=0.9), row(3, 0.3, accuracy=0.5)]
    rows.append(row(4, 0.4, accuracy=None, status="failed"))
    lines = ranked(rows, "val/accuracy", maximize)
    assert [line.rows[0].number for line in lines] == order


def test_a_failed_trial_does_not_enter_the_mean_of_its_line():
    (line,) = ranked([row(1, 0.1, 0, 0, 0.5), row(2, 0.1, 1, 0, 0.9, "failed")], "val/accuracy", maximize=True)
    assert line.values("val/accuracy") == [0.5]


def test_what_auto_chose_stands_in_the_table_and_in_the_summary():
    def left_to_it(number, seed, rate):
        one = row(number, "auto", seed, 0, 0.9 - number / 100)
        one.auto = chosen({"auto": {"lr": {"lr": rate}, "freeze": {"option": "mid"}, "precision": "fp32"}})
        return one

    rows = [left_to_it(1, 0, 0.0079), left_to_it(2, 1, 0.011), left_to_it(3, 2, 0.0079), row(4, 0.001, accuracy=0.1)]
    lines = table(rows, "val/accuracy", True, [])
    assert [line.rstrip().rpartition("  ")[2] for line in lines[1:]] == [
        "lr=auto → 0.0079, 0.011 freeze=auto → mid",
        "lr=0.001",
    ]
    read = csv.DictReader(io.StringIO(summary(rows, "val/accuracy", maximize=True)))
    assert [line["auto"] for line in read] == [
        "lr=0.0079 freeze=mid",
        "lr=0.011 freeze=mid",
        "lr=0.0079 freeze=mid",
        "",
    ]
    assert chosen({"status": "failed"}) == {}


def test_table_shows_zero_and_hides_what_nobody_measured():
    lines = table([row(1, 0.1, accuracy=0.0)], "val/accuracy", True, ["test/auroc"])
    assert "0.000" in lines[1]
    assert "auroc" not in lines[0]


def test_summary_has_a_line_per_trial():
    rows = [row(1, 0.1, 0, 0, 0.8), row(2, 0.1, 1, 0, 0.9), row(3, 0.2, 0, 0, None, "failed")]
    read = list(csv.DictReader(io.StringIO(summary(rows, "val/accuracy", maximize=True))))
    assert [line["number"] for line in read] == ["1", "2", "3"]
    assert [line["val/accuracy"] for line in read] == ["0.8", "0.9", ""]
    assert [line["n val/accuracy"] for line in read] == ["2", "2", "0"]
    assert float(read[0]["mean val/accuracy"]) == pytest.approx(0.85)


def test_the_table_says_where_several_lines_share_the_best_mean():
    rows = [row(1, 0.1, 0, 0, 0.5), row(2, 0.1, 1, 0, 1.0), row(3, 0.2, accuracy=0.75), row(4, 0.3, accuracy=0.2)]
    assert table(rows, "val/accuracy", True, [])[0].endswith("(a tie of the first 2 lines)")
    assert "tie" not in table(rows, "val/accuracy", False, [])[0]
