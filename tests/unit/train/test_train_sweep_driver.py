from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import descendants, is_running
from tune.errors import ConfigError
from tune.report.runs.collect import time_spent
from tune.train.sweep import Options, SweepResult, Trial, run_sweep
from tune.train.sweep.leaderboard import Row
from tune.train.sweep.ledger import ledger_key, locked, sweep_dir_of

HERE = Path(__file__).parent
Last = Callable[[list[Row]], dict | None]
Run = Callable[..., tuple[SweepResult, list[str], list[str]]]


def grid(configs: list[dict]) -> list[Trial]:
    return [
        Trial(config, [f"{key}={value}" for key, value in config.items()], ledger_key(config, "data"))
        for config in configs
    ]


def rates(*values: float, **others) -> list[dict]:
    return [{"lr": value, **others} for value in values]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(
        configs: list[dict], command: str = "lr=1", last: Last = lambda rows: None, **options
    ) -> tuple[SweepResult, list[str], list[str]]:
        said: list[str] = []
        answered: list[str] = []
        result = run_sweep(
            grid(configs),
            [command],
            output=tmp_path,
            name="fake",
            objective="val/accuracy",
            maximize=True,
            options=Options(**{"grace_s": 0.3, **options}),
            say=said.append,
            answer=answered.append,
            target="sweep_trials:trial",
            preload=[],
            last=last,
        )
        return result, said, answered

    return run


def calls(tmp_path: Path) -> list[str]:
    """Learning rates of the trials that were started, in order."""
    return [line.split()[0] for line in (tmp_path / "fake" / "calls.txt").read_text().splitlines()]


def test_a_sweep_that_works_ends_with_a_table_and_exit_code_0(run, tmp_path):
    result, said, answered = run(rates(0.001, 0.003, 0.002))
    assert result.exit_code == 0
    assert [row.status for row in result.rows] == ["done"] * 3
    assert [line.split()[-1] for line in answered[2:]] == ["lr=0.003", "lr=0.002", "lr=0.001"]
    assert said[1].startswith("trial 1/3 done  val/accuracy 0.600")
    assert (result.sweep_dir / "summary.csv").is_file()
    assert json.loads(json.dumps(result.as_json()))["trials"][1]["metrics"]["val/accuracy"] == pytest.approx(0.8)


def test_trials_that_die_in_every_way_cost_themselves_alone(run, tmp_path):
    bad = ["raise", "os._exit", "kill", "hang"]
    configs = [{"lr": 0.001, "do": "finish"}, *({"lr": 0.001, "do": do} for do in bad), {"lr": 0.002, "do": "finish"}]
    result, said, answered = run(configs, time_limit_s=1.0, jobs=2)
    assert result.exit_code == 3
    assert [row.status for row in result.rows] == ["done", "failed", "failed", "failed", "failed", "done"]
    causes = ["raised ValueError: no such thing", "exit code 7", "killed by SIGKILL", "timed out after 1 s"]
    assert [row.cause for row in result.rows[1:5]] == causes
    for number, cause in enumerate(causes, start=2):
        line = f"failed: {cause} (lr=0.001 do={bad[number - 2]})   log: {result.sweep_dir}/{number}/run.log"
        assert f"trial {number}/6 {line}" in said
        assert f"trial {number}/6 {line}" in answered
    assert answered[0].startswith("2 done, 4 failed")
    assert "--retry-failed includes trials 2, 3, 4, 5" in answered[0]


def test_the_same_command_runs_nothing_again(run, tmp_path):
    configs = [*rates(0.001, 0.002), {"lr": 0.003, "do": "raise"}]
    _, _, first = run(configs)
    result, _, second = run(configs)
    assert len(calls(tmp_path)) == 3
    assert result.exit_code == 3
    assert second[1:] == first[1:]
    spent = json.loads((result.sweep_dir / "sweep.json").read_text())["seconds"]  # by the first command
    assert spent > result.seconds
    assert spent < time_spent(result.sweep_dir) < spent + result.seconds + 1


def test_failed_trials_are_retried_when_asked_for_and_their_first_attempt_is_kept(run, tmp_path):
    configs = [*rates(0.001), {"lr": 0.003, "do": "raise"}]
    run(configs)
    result, _, _ = run(configs, retry_failed=True)
    assert calls(tmp_path) == ["0.001", "0.003", "0.003"]
    assert (result.sweep_dir / "2.attempt1" / "run.log").is_file()
    assert (result.sweep_dir / "2" / "run.log").is_file()


def test_a_wider_grid_reuses_what_is_done_in_the_narrower(run, tmp_path):
    narrow, _, _ = run(rates(0.001, 0.002), "lr=1,2")
    wide, _, _ = run(rates(0.001, 0.004, 0.002), "lr=1,4,2")
    assert calls(tmp_path) == ["0.001", "0.002", "0.004"]
    assert wide.sweep_dir != narrow.sweep_dir
    assert [row.run_dir for row in wide.rows] == [narrow.rows[0].run_dir, wide.sweep_dir / "2", narrow.rows[1].run_dir]


def test_a_changed_config_under_the_same_command_runs_again(run, tmp_path):
    run(rates(0.001, 0.002))
    result, _, _ = run(rates(0.001, 0.005))
    assert calls(tmp_path) == ["0.001", "0.002", "0.005"]
    assert result.rows[1].metrics["val/accuracy"] == pytest.approx(1.0)


def test_equal_trials_run_once(run, tmp_path):
    result, _, _ = run(rates(0.001, 0.002, 0.001))
    assert calls(tmp_path) == ["0.001", "0.002"]
    assert result.rows[2].run_dir == result.rows[0].run_dir
    assert result.exit_code == 0


def test_fail_fast_stops_what_runs_and_starts_nothing_more(run, tmp_path):
    configs = [{"lr": 0.001, "do": "hang"}, {"lr": 0.002, "do": "raise", "sleep_s": 0.2}, *rates(0.003, 0.004)]
    result, _, _ = run(configs, fail_fast=True, jobs=2)
    assert [row.status for row in result.rows] == ["interrupted", "failed", "missing", "missing"]
    assert result.exit_code == 3


FUSABLE = {
    **{node: {} for node in ("data", "head", "init", "augment", "cache", "trainer", "regularize", "scheduler", "loss")},
    "backbone": {"_target_": "tune.models.backbones.timm_model.TimmBackbone"},
    "freeze": {"_target_": "…", "rules": {"head": "trained", "*": "frozen"}},
    "optimizer": {"_target_": "tune.train.optim.adamw"},
    "transfer": {"_target_": "tune.transfer.fine_tune.FineTune"},
    "precision": "auto",
    "sweep": {},
    "evaluate": {},
    "seed": 0,
}


def groups(tmp_path: Path) -> list[str]:
    """Sizes of the groups that were started."""
    return (tmp_path / "fake" / "groups.txt").read_text().split()


def test_trials_that_differ_behind_the_frozen_network_share_a_process(run, tmp_path):
    configs = [{**FUSABLE, "lr": lr, "batch_size": size} for size in (16, 32) for lr in (0.001, 0.002)]
    result, said, _ = run([*configs, {**FUSABLE, "lr": 0.003, "batch_size": 64}])
    assert result.exit_code == 0
    assert groups(tmp_path) == ["2", "2"]
    assert result.fused_groups == result.as_json()["fused_groups"] == 2
    assert "5 trials = 2 fused groups (batch_size 16, 32) and 1 alone: 5 to run" in said[0]
    assert [line.split(" in ")[0] for line in said if line.startswith("group")] == [
        "group 1/2: 2 of 2 trained as one",
        "group 2/2: 2 of 2 trained as one",
    ]
    records = [json.loads((result.sweep_dir / str(number) / "run.json").read_text()) for number in range(1, 6)]
    assert [record.get("fused") for record in records] == [1, 1, 2, 2, None]
    assert (result.sweep_dir / "fused-1.log").read_text().count("trial with lr") == 2


def test_a_group_that_dies_is_run_trial_by_trial(run, tmp_path):
    configs = [{**FUSABLE, "lr": lr} for lr in (0.001, 0.002, 0.003)]
    configs[1]["loss"] = {"only_alone": "die"}
    configs[2]["loss"] = {"only_alone": "yes", "do": "raise"}
    result, said, _ = run(configs)
    assert [row.status for row in result.rows] == ["done", "done", "failed"]
    assert calls(tmp_path) == ["0.001", "0.002", "0.002", "0.003"]
    assert result.fused_groups == 1
    assert any("1 of 3 trained as one" in line and "2 run one by one: raised RuntimeError" in line for line in said)
    assert (result.sweep_dir / "2.attempt1").is_dir()


def test_what_is_done_of_a_group_is_not_done_again(run, tmp_path):
    configs = [{**FUSABLE, "lr": lr} for lr in (0.001, 0.002)]
    run(configs[:1], "narrow")
    result, _, _ = run([*configs, {**FUSABLE, "lr": 0.003}])
    assert groups(tmp_path) == ["2"]
    assert calls(tmp_path) == ["0.001", "0.002", "0.003"]
    assert result.exit_code == 0


def test_ctrl_c_in_a_group_leaves_its_trials_interrupted(tmp_path):
    process = driver(tmp_path, [{**FUSABLE, "lr": 0.001, "loss": {"do": "hang"}}, {**FUSABLE, "lr": 0.002}])
    wait_for_calls(tmp_path, 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    records = [json.loads(path.read_text()) for path in (tmp_path / "fake").glob("sweep-*/*/run.json")]
    assert [record["status"] for record in records] == ["interrupted", "interrupted"]


def test_what_comes_last_sees_all_trials_and_runs_where_they_ran(run):
    seen: list[str] = []
    job = {"last": "finish"}
    result, said, _ = run(rates(0.001, 0.002), last=lambda rows: seen.extend(row.status for row in rows) or job)
    assert seen == ["done", "done"]
    assert result.exit_code == 0
    assert not any("warning" in line for line in said)
    assert not (result.sweep_dir / "last.log").exists()


@pytest.mark.parametrize(("act", "cause"), [("raise", "no such thing"), ("kill", "SIGKILL")])
def test_what_comes_last_and_fails_costs_a_warning(run, act, cause):
    result, said, answered = run(rates(0.001), last=lambda rows: {"last": act})
    assert result.exit_code == 0
    assert any("the last step failed" in line and cause in line for line in said)
    assert (result.sweep_dir / "last.log").exists()
    assert (result.sweep_dir / "summary.csv").exists()
    assert answered[0].startswith("1 done")


def test_ctrl_c_in_what_comes_last_leaves_the_table(run, tmp_path):
    def hangs(rows):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        return {"last": "hang"}

    result, _, answered = run(rates(0.001), last=hangs)
    assert result.exit_code == 130
    assert [row.status for row in result.rows] == ["done"]
    assert answered[0].startswith("1 done")


def test_a_second_driver_is_refused(run, tmp_path):
    with locked(sweep_dir_of(tmp_path, "fake", ["lr=1"])), pytest.raises(ConfigError, match="another process"):
        run(rates(0.001))
    assert not (tmp_path / "fake" / "calls.txt").exists()


SLOW = [{"lr": round(0.001 * number, 3), "sleep_s": 0.8 if number == 4 else 0.05} for number in range(1, 7)]


def driver(tmp_path: Path, configs: list[dict]) -> subprocess.Popen[str]:
    """The same sweep as `run` makes, in a process of its own."""
    code = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]
from pathlib import Path
from test_train_sweep_driver import grid
from tune.report.runs.collect import time_spent
from tune.train.sweep import Options, run_sweep
say = lambda line: print(line, flush=True)
result = run_sweep(grid({configs!r}), ["lr=1"], output=Path({str(tmp_path)!r}), name="fake", objective="val/accuracy",
    maximize=True, options=Options(grace_s=1.0), say=say, answer=say, target="sweep_trials:trial",
    preload=[])
assert "torch" not in sys.modules
sys.exit(result.exit_code)
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_calls(tmp_path: Path, number: int) -> list[int]:
    """Process ids of the first `number` trials that were started."""
    path = tmp_path / "fake" / "calls.txt"
    for _ in range(500):
        if path.exists() and len(lines := path.read_text().splitlines()) >= number:
            return [int(line.split()[1]) for line in lines]
        time.sleep(0.01)
    raise AssertionError("the trials did not start")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_driver_leaves_no_process_and_the_same_command_ends_like_an_uninterrupted_one(run, tmp_path):
    process = driver(tmp_path, SLOW)
    wait_for_calls(tmp_path, 4)
    below = descendants(process.pid)
    assert len(below) == 3  # server, guard, one trial
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until = time.monotonic() + 10
    while (left := [pid for pid in below if is_running(pid)]) and time.monotonic() < until:
        time.sleep(0.01)
    assert left == []
    interrupted, _, table = run(SLOW)
    assert calls(tmp_path) == [f"0.00{number}" for number in (1, 2, 3, 4, 4, 5, 6)]
    uninterrupted, _, expected = run([{**config, "do": "finish"} for config in SLOW], "other")
    assert [line.replace(" do=finish", "") for line in expected[1:]] == table[1:]
    assert interrupted.exit_code == uninterrupted.exit_code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_stop_the_trials(tmp_path, number, code):
    process = driver(tmp_path, [{"lr": 0.001, "do": "hang"}, *rates(0.002)])
    pids = wait_for_calls(tmp_path, 1)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == code, output
    assert not any(is_running(pid) for pid in pids)
    records = [json.loads(path.read_text()) for path in (tmp_path / "fake").glob("sweep-*/*/run.json")]
    assert [record["status"] for record in records] == ["interrupted"]
    assert "1 interrupted, 1 not started" in output


def test_two_drivers_at_once_the_second_says_so_and_stops(tmp_path):
    told_by = tmp_path / "told"
    configs = [{"lr": 0.001, "do": "wait", "told_by": str(told_by)}, *rates(0.002)]
    first = driver(tmp_path, configs)
    wait_for_calls(tmp_path, 1)
    second = driver(tmp_path, configs)
    output, _ = second.communicate(timeout=30)
    told_by.touch()
    first.communicate(timeout=30)
    assert f"pid {first.pid}" in output
    assert second.returncode != 0
    assert first.returncode == 0
