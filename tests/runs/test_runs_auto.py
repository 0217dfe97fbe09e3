"""freeze=auto: what it chooses and says, and that the run is then that of the chosen option, also when resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.train.choose.auto import noted, taken_over
from tune.train.choose.rule import Choice
from tune.train.prepare import prepare

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

TINY = ["data=synthetic", "data.rows=90", "backbone.input_size=32", "batch_size=16", "epochs=1", "trainer=cpu"]
SOLAR = ["data=elpv", "backbone.input_size=64", "trainer=cpu", "precision=32-true"]


def run(capsys, *words: str, code: int = 0) -> tuple[dict, str]:
    """The JSON answer and everything else that was said."""
    got = main([*words, "--json", "--traceback"] if code == 0 else [*words, "--json"])
    said = capsys.readouterr()
    assert got == code, said.err
    return json.loads(said.out.splitlines()[-1]), said.err


def record(run_dir: str | Path) -> dict:
    return json.loads((Path(run_dir) / "run.json").read_text())


def choice_of(*words: str):
    composed = compose(ConfigTree(), [*words, "freeze=auto"])
    assert composed.problems == []
    return prepare(composed.cfg, decode=False)


def test_ten_labels_per_class_of_solar_cells_give_deep_and_all_of_them_do_not():
    few = choice_of(*SOLAR, "data.split.per_class=10").choice
    everything = choice_of(*SOLAR).choice
    assert few.option == "deep"
    assert "10 training rows a class" in few.reason
    assert everything.option != "deep"
    assert everything.evidence["rows"] == 1574
    assert everything.evidence["looked"] == 1000
    assert [tap["layer"] for tap in everything.evidence["taps"]][-1] == "output"
    assert len(everything.evidence["taps"]) == 5
    for tap in everything.evidence["taps"]:
        assert 0.5 < tap["probe"] < 0.95
        assert tap["log_me"] < 0


@pytest.mark.parametrize("is_deep", [True, False])
def test_the_run_is_that_of_the_chosen_option_to_the_last_bit(capsys, is_deep):
    words = [*TINY, "data.split.per_class=5"] if is_deep else ["data=digits", "data.split.per_class=60", *TINY[2:]]
    auto, said = run(capsys, "run", *words, "freeze=auto")
    chosen = record(auto["run_dir"])["auto"]["freeze"]
    typed, _ = run(capsys, "run", *words, f"freeze={chosen['option']}")
    assert f"freeze    auto → {chosen['option']}: {chosen['reason']}" in said
    assert chosen["numbers"] in said
    assert (chosen["option"] == "deep") == is_deep
    assert auto["metrics"] == typed["metrics"]
    one, other = (load_file(Path(each["run_dir"]) / "model.safetensors") for each in (auto, typed))
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    kept = yaml.safe_load((Path(auto["run_dir"]) / "config.yaml").read_text())["freeze"]
    assert kept["_target_"] == "tune.models.freeze.AutoFreeze"
    assert kept["chosen"] == chosen
    assert record(auto["run_dir"])["choices"]["freeze"] == "auto"


def test_a_resumed_run_takes_its_choice_over_and_looks_at_nothing(capsys, tmp_path):
    answer, _ = run(capsys, "run", *TINY, "data.split.per_class=5", "freeze=auto")
    run_dir = Path(answer["run_dir"])
    for path in (run_dir / "checkpoints").iterdir():
        path.unlink()
    before = record(run_dir)
    assert before["auto"]["freeze"]["option"] == "deep"
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config["freeze"]["chosen"] |= {"option": "mid", "reason": "somebody wrote so"}  # no rows would say that
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (run_dir / "run.json").write_text(json.dumps(before | {"status": "interrupted"}))
    frozen = load_file(run_dir / "model.safetensors")
    _, said = run(capsys, "resume", str(run_dir))
    assert "freeze    auto → mid: somebody wrote so" in said
    assert record(run_dir)["auto"]["freeze"]["option"] == "mid"
    moved = {
        name for name, tensor in load_file(run_dir / "model.safetensors").items() if not tensor.equal(frozen[name])
    }
    assert any("blocks.5" in name for name in moved)
    assert not any("blocks.1" in name for name in moved)


def test_only_training_and_validation_rows_are_looked_at(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (80, 24, 24, 3), dtype=np.uint8)
    labels = np.array(["a", "b"] * 40)
    split = np.array(["train"] * 40 + ["val"] * 20 + ["test"] * 20)
    found = []
    for changed in (slice(0, 0), slice(60, 80), slice(0, 40), slice(40, 60)):
        own = images.copy()
        own[changed] = 255 - own[changed]
        np.savez(tmp_path / "images.npz", images=own, labels=labels, split=split)
        words = ["data=arrays", "data.file=images.npz", "backbone.input_size=32", "trainer=cpu", "precision=32-true"]
        found.append(choice_of(*words).choice.evidence["taps"])
    assert found[1] == found[0]
    assert found[2] != found[0]
    assert found[3] != found[0]


def test_random_weights_give_full(capsys):
    answer, said = run(capsys, "run", *TINY[:2], "backbone=lenet", "epochs=1", "freeze=auto")
    assert "freeze    auto → full: random weights" in said
    assert record(answer["run_dir"])["auto"]["freeze"]["option"] == "full"


def test_a_fitted_head_gives_deep(capsys):
    _, said = run(capsys, "run", *TINY[:3], "head=sklearn", "head.name=knn", "freeze=auto")
    assert "freeze    auto → deep: the head is fitted" in said


def test_a_plan_may_be_changed_and_is_taken_where_it_is_chosen():
    prepared = choice_of(*TINY, "data.split.per_class=5", "freeze.deep.norm=train")
    assert prepared.choice.option == "deep"
    assert prepared.plan.norm == "train"
    assert prepared.phases[0].trained == {"head"}


def test_another_process_of_a_distributed_run_takes_the_choice_over(tmp_path):
    prepared = choice_of(*TINY[:2], "backbone=lenet")
    typed = compose(ConfigTree(), [*TINY[:2], "backbone=lenet", "freeze=auto"]).cfg
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(noted(typed, Choice("deep", "the first process said so")), sort_keys=False)
    )
    taken = taken_over(typed, tmp_path)
    assert prepare(taken, decode=False).choice == Choice("deep", "the first process said so")
    assert prepared.choice.option == "full"
    assert taken_over(prepared.config, tmp_path) == prepared.config


@pytest.mark.slow
def test_every_trial_of_a_sweep_chooses_for_itself(tune):
    done = tune("run", "-m", *TINY, "freeze=auto,deep", "data.split.per_class=5", "lr=1e-2", "--json")
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [trial["status"] for trial in answer["trials"]] == ["done", "done"]
    auto, deep = (record(tune.folder / trial["run_dir"]) for trial in answer["trials"])
    assert auto["auto"]["freeze"]["option"] == "deep"
    assert "freeze" not in deep["auto"]
    assert auto["metrics"] == pytest.approx(deep["metrics"])


@pytest.mark.parametrize(
    ("words", "key", "text"),
    [
        (["freeze.chosen={option: mid}"], "freeze.chosen", "freeze=mid"),
        (["freeze.deep=3"], "freeze.deep", "must be a plan"),
        (["freeze.cut=0.5"], "freeze.cut", "freeze=mid"),
        (["freeze.mid.cutt=4"], "freeze.mid.cutt", "unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys, words, key, text):
    answer, _ = run(capsys, "run", *TINY, "freeze=auto", *words, code=2)
    (problem,) = answer["problems"]
    assert problem["key"] == key
    assert text in problem["text"]
