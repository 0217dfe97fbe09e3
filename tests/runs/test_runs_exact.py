"""The same config gives the same numbers, to the bit: again, with workers, and through any number of kills."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

WILD = ["data=synthetic", "data.rows=80", "backbone.input_size=32", "batch_size=16", "epochs=3", "freeze=mid"]
WILD += ["augment=strong", "regularize.dropout=0.3", "backbone.drop_path=0.1", "scheduler=warmup_cosine", "lr=3e-3"]


EPOCHS_OF_STEPS = ["epoch_steps=5", "epochs=6"]
TEACHER = ["transfer=distill", "backbone@transfer.teacher=efficientnet_lite1", "transfer.teacher.input_size=48"]


def same(left, right) -> bool:
    one, other = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    assert one.keys() == other.keys()
    last = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (left, right)]
    return (
        all(torch.equal(one[name], other[name]) for name in one)
        and all(torch.equal(last[0][name], last[1][name]) for name in last[0])
        and (left / "metrics.csv").read_bytes() == (right / "metrics.csv").read_bytes()
        and (left / "monitor.csv").read_bytes() == (right / "monitor.csv").read_bytes()
        and (left / "predictions" / "test.csv").read_bytes() == (right / "predictions" / "test.csv").read_bytes()
    )


def test_twice_and_with_workers_and_through_two_kills_but_not_with_another_seed(tune):
    tune("run", *WILD, "name=plain")
    tune("run", *WILD, "name=again")
    plain, again = (next((tune.folder / "outputs" / name).iterdir()) for name in ("plain", "again"))
    assert same(plain, again)
    assert same(plain, killed_and_resumed(tune, kills=2, workers=2))
    tune("run", *WILD, "name=other", "seed=1")
    assert not same(plain, next((tune.folder / "outputs" / "other").iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [*EPOCHS_OF_STEPS, "regularize.ema=0.9", "regularize.sam=0.05", "loss=center", "data.sampler=balanced"],
        ["regularize.swa=2", *TEACHER],
    ],
)
def test_averages_sharp_steps_centres_epochs_of_steps_and_teachers_survive_a_kill(tune, words):
    tune("run", *WILD, *words, "name=plain")
    plain = next((tune.folder / "outputs" / "plain").iterdir())
    assert same(plain, killed_and_resumed(tune, kills=1, workers=0, wild=[*WILD, *words]))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_five_kills_at_random_steps(tune, workers):
    tune("run", *WILD, "name=plain")
    plain = next((tune.folder / "outputs" / "plain").iterdir())
    assert same(plain, killed_and_resumed(tune, kills=5, workers=workers))


def killed_and_resumed(tune, kills: int, workers: int, wild: list[str] = WILD):
    """Start a run, kill its whole process group at random moments, resume it to the end.

    The first kill waits for the first checkpoint, so that there always is something to resume.
    """
    draw, wanted = random.Random(workers), "killed/*/checkpoints/last.ckpt"
    process = tune.start("run", *wild, "name=killed", f"data.workers={workers}")
    for number in range(kills):
        deadline = time.monotonic() + 60
        while (
            not list((tune.folder / "outputs").glob(wanted if number == 0 else "killed/*/run.json"))
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 0.2 if number == 0 else 6))
        kill_group(process)
        process.communicate()
        run_dir = next((tune.folder / "outputs" / "killed").iterdir())
        if '"done"' in (run_dir / "run.json").read_text():
            break
        process = tune.start("resume", str(run_dir))
    output, _ = process.communicate(timeout=300)
    run_dir = next((tune.folder / "outputs" / "killed").iterdir())
    assert '"status": "done"' in (run_dir / "run.json").read_text(), output
    return run_dir


def kill_group(process) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
