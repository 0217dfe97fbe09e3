from __future__ import annotations

from pathlib import Path

import pytest

from tune.config.compose import ConfigTree, compose
from tune.errors import ConfigError
from tune.train.ensemble.plan import refuse_lone_members
from tune.train.sweep.keep import Keep, best_of
from tune.train.sweep.leaderboard import Row


@pytest.fixture
def trials(tmp_path):
    """Makes trials of a sweep that have ended, with the files that each leaves."""

    def make(values: list[float | None], statuses: dict[int, str] | None = None, folder: str = "sweep-1"):
        rows = []
        for number, value in enumerate(values, start=1):
            run_dir = tmp_path / folder / str(number)
            for name in ("model.safetensors", "run.json", "stage-1/model.safetensors", "stage-1/checkpoints/last.ckpt"):
                (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (run_dir / name).touch()
            status = (statuses or {}).get(number, "done")
            row = Row(number, [], {}, f"k{number}", {}, run_dir, status, metrics={"val/accuracy": value})
            rows.append(row)
        return rows

    return make


def with_weights(folder: Path) -> list[str]:
    """Trials that have any, by number; all of them have their results."""
    assert all((run_dir / "run.json").is_file() for run_dir in folder.iterdir())
    files = [*folder.rglob("*.safetensors"), *folder.rglob("*.ckpt")]
    return sorted({path.relative_to(folder).parts[0] for path in files})


@pytest.mark.parametrize(("which", "kept"), [("all", ["1", "2", "3", "4", "5"]), ("best", ["3", "5"]), ("none", ["5"])])
def test_what_stays_of_which_trials(trials, tmp_path, which, kept):
    rows = trials([0.5, None, 0.9, 0.9, 0.99], {5: "failed"})
    keep = Keep(which, "val/accuracy", tmp_path / "sweep-1", [])
    for row in (rows[3], rows[1], rows[4], rows[2], rows[0]):  # of equals the first in the grid, whichever ends first
        keep.ended(row)
    assert with_weights(tmp_path / "sweep-1") == kept
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2 * len(kept)


def test_at_no_moment_more_than_one_trial_that_is_done_has_weights(trials, tmp_path):
    rows = trials([0.5, 0.7, 0.6], dict.fromkeys((1, 2, 3), "running"))
    keep = Keep("best", "val/accuracy", tmp_path / "sweep-1", rows)
    left = []
    for row in rows:
        row.status = "done"
        keep.ended(row)
        left.append(with_weights(tmp_path / "sweep-1"))
    assert left == [["1", "2", "3"], ["2", "3"], ["2"]]


def test_what_was_done_before_counts_and_other_sweeps_are_left_alone(trials, tmp_path):
    (elsewhere,) = trials([0.95], folder="sweep-0")
    rows = trials([0.5, 0.9])
    Keep("best", "val/accuracy", tmp_path / "sweep-1", [elsewhere, *rows])
    assert with_weights(tmp_path / "sweep-1") == []
    assert with_weights(tmp_path / "sweep-0") == ["1"]


def test_two_equal_points_of_a_grid_share_their_weights(trials, tmp_path):
    (first,) = trials([0.9])
    again = Row(2, [], {}, first.key, {}, first.run_dir, "done", metrics={"val/accuracy": 0.9})
    Keep("best", "val/accuracy", tmp_path / "sweep-1", [first, again])
    assert with_weights(tmp_path / "sweep-1") == ["1"]


def test_a_loss_is_best_when_it_is_least(trials):
    rows = trials([0.5, 0.2, None, 0.9])
    for row in rows:
        row.metrics = {"val/loss": row.metric("val/accuracy")}
    assert best_of(rows, "val/loss") is rows[1]
    assert best_of(rows[2:3], "val/loss") is None


def test_an_ensemble_needs_the_weights_of_all_its_members():
    words = ["data=synthetic", "ensemble=average"]
    configs = [compose(ConfigTree(), [*words, "sweep.keep=best", f"lr={lr}"]).cfg for lr in (1, 2)]
    with pytest.raises(ConfigError, match=r"sweep\.keep: average needs the weights of all its members"):
        refuse_lone_members(configs)
