"""Chains of stages: each starts from the backbone of the one before, and what is done is not done again."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import tune
from tune.cli.main import main

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

CHAIN = """\
# @package _global_
# Drawn shapes, then others with few labels.
defaults:
  - override /data: synthetic
  - override /backbone: convnet
  - override /freeze: full
  - override /loss: moody
data:
  rows: 80
  split:
    test: 0.5
backbone:
  input_size: 16
  norm: none
  width: 4
  depth: 2
epochs: 2
lr: 1.0e-2
batch_size: 16
precision: 32-true
stages:
  - [data.seed=1]
  - [data.seed=2, data.split.per_class=5]
"""
# Does at the N-th call in training from now what the file `mood` says, as "raise 5"; cross-entropy in all others.
MOODY = """
import os, pathlib, signal
import torch

class Moody(torch.nn.CrossEntropyLoss):
    def forward(self, output, batch):
        mood = pathlib.Path("mood")
        loss = super().forward(output.logits, batch.labels)
        if not (mood.exists() and self.training):
            return loss
        act, left = mood.read_text().split()
        if int(left) > 1:
            mood.write_text(f"{act} {int(left) - 1}")
            return loss
        mood.unlink()
        if act == "raise":
            raise ValueError("in no mood")
        if act == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        return loss * float("nan") if act == "nan" else loss
"""


@pytest.fixture
def go(tmp_path, capsys):
    """Runs `tune WORDS` on the chain; gives the exit code, the answer and what was said."""
    for name, text in {
        "conf/experiment/chain.yaml": CHAIN,
        "conf/loss/moody.yaml": "# Moody.\n_target_: moody_loss.Moody\n",
        "moody_loss.py": MOODY,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(*words: str):
        code = main([*words, "--allow", "moody_loss", "--json"])
        said = capsys.readouterr()
        lines = said.out.splitlines()
        answer = json.loads(lines[-1]) if lines else {}
        return code, answer, said.out + said.err

    return run


RUN = ("run", "experiment=chain")


def record(run_dir: str | Path) -> dict:
    return json.loads((Path(run_dir) / "run.json").read_text())


def weights(run_dir: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(run_dir) / "model.safetensors")


def times(run_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(run_dir.rglob("*")) if path.is_file()}


def accuracy_of(run_dir: str | Path) -> dict[str, bool]:
    with (Path(run_dir) / "predictions" / "test.csv").open() as file:
        return {row["path"]: row["label"] == row["predicted"] for row in csv.DictReader(file)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_stage_starts_where_the_one_before_ended(go, tmp_path):
    code, answer, said = go(*RUN, 'stages=[["data.seed=1"],["data.seed=2","lr=1e-12"]]')
    assert code == 0, said
    chain = Path(answer["run_dir"])
    first, second, straight = (weights(chain / name) for name in ("stage-1", "stage-2", "straight"))
    backbone = [name for name in first if name.startswith("backbone.")]
    assert backbone
    for name in backbone:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=1e-9)
    assert not all(torch.allclose(straight[name], first[name], atol=1e-3) for name in backbone)
    head = [name for name in first if name.startswith("head.") and name.endswith("weight")]
    assert not all(torch.allclose(second[name], first[name], atol=1e-3) for name in head), "the head is new"
    assert all(torch.allclose(second[name], straight[name], atol=1e-9) for name in head), "by the seed"


def test_the_report_holds_the_chain_against_going_straight(go):
    code, answer, said = go(*RUN)
    assert code == 0, said
    chain = Path(answer["run_dir"])
    told = record(chain)["chain"]
    assert answer["chain"] == told
    assert [stage["run_dir"] for stage in told["stages"]] == [str(chain / "stage-1"), str(chain / "stage-2")]
    (straight,) = told["beside"]
    ours, theirs = accuracy_of(chain / "stage-2"), accuracy_of(chain / "straight")
    assert ours.keys() == theirs.keys()
    assert straight["rows"] == len(ours)
    difference, low, high = straight["gain"]["test/accuracy"]
    assert difference == pytest.approx((sum(ours.values()) - sum(theirs.values())) / len(ours))
    assert low <= difference <= high
    for name in ("stage-1", "stage-2", "straight"):
        assert record(chain / name)["status"] == "done"
    metrics = record(chain / "stage-2")["metrics"]
    assert answer["metrics"].items() >= metrics.items()
    assert answer["metrics"]["test_straight/auroc"] == record(chain / "straight")["metrics"]["test/auroc"]
    assert "chain against straight   accuracy" in said
    assert "data.seed=2 data.split.per_class=5   test   accuracy" in said


def test_a_chain_is_used_like_a_run(go):
    _, answer, _ = go(*RUN)
    chain = Path(answer["run_dir"])
    loaded, last = tune.load(chain.name.rpartition("-")[2]), tune.load(chain / "stage-2")
    images = [torch.randint(0, 255, (16, 16, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()]
    assert torch.equal(loaded.predict(images), last.predict(images))


def test_the_words_of_a_part_give_it_again_as_a_run_on_its_own(go):
    _, answer, _ = go(*RUN)
    stage = Path(answer["run_dir"]) / "stage-2"
    words = (stage / "overrides.txt").read_text().splitlines()
    code, again, said = go("run", *words)
    assert code == 0, said
    assert "chain" not in again
    assert same(weights(again["run_dir"]), weights(stage))


def test_the_same_command_runs_only_what_is_missing(go):
    _, answer, _ = go(*RUN)
    chain = Path(answer["run_dir"])
    before, second = times(chain), weights(chain / "stage-2")
    assert go(*RUN)[1]["chain"] == answer["chain"]
    assert times(chain) == before, "nothing was missing"

    shutil.rmtree(chain / "stage-2")
    code, again, said = go(*RUN)
    assert (code, again["run_dir"]) == (0, str(chain)), said
    assert "stage 1 of 2: done before" in said
    after = times(chain)
    for name in ("stage-1", "straight"):
        assert {path: time for path, time in after.items() if path.is_relative_to(chain / name)} == {
            path: time for path, time in before.items() if path.is_relative_to(chain / name)
        }
    assert same(weights(chain / "stage-2"), second)

    shutil.rmtree(chain / "stage-1")
    _, _, said = go(*RUN)
    assert "straight: done before" in said
    assert (chain / "stage-2.attempt1").exists(), "it stood on a stage that is trained anew"
    assert same(weights(chain / "stage-2"), second)


def test_another_command_is_another_chain(go):
    _, answer, _ = go(*RUN)
    _, other, _ = go(*RUN, "seed=1")
    assert answer["run_dir"] != other["run_dir"]
    assert not same(weights(answer["run_dir"]), weights(other["run_dir"]))


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_an_interrupted_stage_goes_on_exactly(go, verb):
    _, whole, _ = go(*RUN, "output=whole")
    Path("mood").write_text("term 6")  # two epochs of two steps, then in the second of two epochs of one
    code, answer, said = go(*RUN)
    chain = Path(answer["run_dir"])
    assert (code, answer["status"]) == (75, "interrupted"), said
    assert answer["cause"] == "stage 2 interrupted: SIGTERM"
    assert [stage["status"] for stage in answer["chain"]["stages"]] == ["done", "interrupted"]
    begun = (chain / "stage-2" / "metrics.csv").read_text()
    assert len(begun.splitlines()) == 2, "a header, and the first epoch"
    assert f"tune resume {chain.name.rpartition('-')[2]}" in said
    code, answer, said = go(*(RUN if verb == "run" else ("resume", chain.name.rpartition("-")[2])))
    assert (code, answer["status"]) == (0, "done"), said
    assert (chain / "stage-2" / "metrics.csv").read_text().startswith(begun), "the first epoch was not trained again"
    for name in ("stage-1", "stage-2", "straight"):
        assert same(weights(chain / name), weights(Path(whole["run_dir"]) / name)), name
        assert not (chain / f"{name}.attempt1").exists()


@pytest.mark.parametrize(("act", "code", "status"), [("raise", 1, "failed"), ("nan", 5, "diverged")])
def test_a_stage_that_fails_ends_the_chain(go, act, code, status):
    Path("mood").write_text(f"{act} 2")
    ended, answer, said = go(*RUN)
    chain = Path(answer["run_dir"])
    assert (ended, answer["status"]) == (code, status), said
    assert answer["cause"].startswith(f"stage 1 {status}: ")
    assert answer["cause"] in said
    assert record(chain)["cause"] == answer["cause"]
    assert not (chain / "stage-2").exists()
    assert not (chain / "straight").exists()
    assert "Traceback" not in said
    assert [stage["status"] for stage in answer["chain"]["stages"]] == [status]

    ended, answer, said = go(*RUN)  # the mood is over
    assert (ended, answer["status"], answer["cause"]) == (0, "done", ""), said
    assert record(chain / "stage-1.attempt1")["status"] == status


@pytest.mark.slow
def test_a_sweep_has_a_chain_for_each_trial(go):
    words = ("run", "-m", "experiment=chain", "seed=0,1", "epochs=1")
    code, answer, said = go(*words)
    assert code == 0, said
    assert len(answer["trials"]) == 2
    for seed, trial in enumerate(answer["trials"]):
        folder = Path(trial["run_dir"])
        assert [record(folder / name)["seed"] for name in ("stage-1", "stage-2", "straight")] == [seed] * 3
        assert trial["metrics"]["test/auroc"] == record(folder / "stage-2")["metrics"]["test/auroc"]
        assert trial["metrics"]["test_straight/auroc"] == record(folder / "straight")["metrics"]["test/auroc"]
        assert weights(folder).keys() == weights(folder / "stage-2").keys()
    assert not same(weights(answer["trials"][0]["run_dir"]), weights(answer["trials"][1]["run_dir"]))
    assert "test_straight/auroc" in said
    assert not any(list(Path(trial["run_dir"]).rglob("pictures")) for trial in answer["trials"])

    # A trial that was cut off keeps the stages that it had finished.
    folder = Path(answer["trials"][0]["run_dir"])
    cut = {**record(folder), "status": "interrupted"}
    (folder / "run.json").write_text(json.dumps(cut))
    shutil.rmtree(folder / "stage-2")
    first = times(folder / "stage-1")
    second = weights(folder)
    code, again, said = go(*words)
    assert code == 0, said
    assert times(folder / "stage-1") == first
    assert same(weights(folder / "stage-2"), second)
    assert again["trials"][1]["metrics"] == answer["trials"][1]["metrics"]


def test_with_three_stages_each_start_is_tried(go):
    words = 'stages=[["data.seed=1"],["data.seed=3"],["data.seed=2"]]'
    code, answer, said = go(*RUN, words, "epochs=1")
    assert code == 0, said
    chain = Path(answer["run_dir"])
    assert [entry["name"] for entry in answer["chain"]["beside"]] == ["straight", "from-stage-1"]
    source = {name: record(chain / name)["weights"]["source"] for name in ("stage-3", "straight", "from-stage-1")}
    assert source["stage-3"] == "weights from run stage-2"
    assert source["from-stage-1"] == "weights from run stage-1"
    assert source["straight"] == "random weights"
    assert "chain against from stage 1" in said


REFUSED = {
    "a stage that passes nothing on": (['stages=[["freeze=deep"],["data.seed=2"]]'], "stage 1: freeze", "head alone"),
    "another backbone": (['stages=[["data.seed=1"],["backbone.width=8"]]'], "stage 2: backbone", "another network"),
    "a layer that is not there": (
        ['stages=[["data.seed=1"],["freeze=mid","freeze.cut=convolution9"]]'],
        "stage 2: freeze.cut",
        "",
    ),
    "too few rows": (['stages=[["data.seed=1"],["data.split.per_class=900"]]'], "stage 2: data.split.per_class", "900"),
    "a misspelt key": (['stages=[["data.sead=1"],[]]'], "stage 1: data.sead", "Did you mean data.seed"),
    "processes": (["trainer=ddp"], "trainer.devices", "one process"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_before_anything_starts(go, case):
    words, key, why = REFUSED[case]
    code, answer, said = go(*RUN, *words)
    assert (code, answer["status"]) == (2, "refused"), said
    assert [problem["key"] for problem in answer["problems"]] == [key]
    assert why in answer["problems"][0]["text"]
    assert not Path("outputs").exists()


def test_images_that_were_trained_on_before_are_told_of(go):
    _, answer, said = go(*RUN, 'stages=[["data.split.seed=1"],["data.split.seed=2"]]', "epochs=1")
    seen = record(answer["run_dir"])["seen_before"]
    trained = set(accuracy_of(Path(answer["run_dir"]) / "stage-2"))
    assert 0 < seen < 80
    assert f"{seen} images that validate or test the last stage train an earlier one" in said
    assert trained
    _, answer, said = go(*RUN, "epochs=1")
    assert record(answer["run_dir"])["seen_before"] == 0
    assert "train an earlier one" not in said


def test_a_dry_run_says_every_part_and_starts_nothing(go):
    code, answer, said = go(*RUN, "--dry-run")
    assert (code, answer["status"]) == (0, "dry-run")
    for line in ("chain     stage 1   data.seed=1", "chain     stage 2   data.seed=2", "chain     straight"):
        assert line in said
    assert not Path("outputs").exists()


def test_a_chain_that_is_resumed_keeps_its_config(go):
    Path("mood").write_text("raise 2")
    _, answer, _ = go(*RUN)
    code, _, said = go("resume", answer["run_dir"], "data.workers=1")
    assert code == 2
    assert "a chain goes on as it is" in said


def test_a_cache_cannot_be_built_for_a_chain(go):
    code, _, said = go("cache", "build", "experiment=chain")
    assert code == 2
    assert "nothing to build before it runs" in said
