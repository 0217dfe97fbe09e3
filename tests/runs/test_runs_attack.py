"""Attacks on whole runs: asked for with the run, and on a run that is finished."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tune
from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.data.readers.synthetic import Synthetic
from tune.train.fused.group import fuse_key
from tune.train.sweep.ledger import ledger_key

SMALL = ["data=synthetic", "data.rows=90", "backbone.input_size=32", "epochs=2", "lr=1e-2", "precision=32-true"]
CONVNET = ["backbone=convnet", "backbone.depth=2", "backbone.input_size=16", "freeze=full"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]


def answer(capsys, *words):
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def finished(capsys, *words):
    run_dir = Path(answer(capsys, "run", *SMALL, *words)["run_dir"])
    return run_dir, json.loads((run_dir / "run.json").read_text())


def problems(capsys, *words):
    assert main([*words, "--json"]) == 2
    return {each["key"]: each["text"] for each in json.loads(capsys.readouterr().out.splitlines()[-1])["problems"]}


def predicted(run_dir):
    with (run_dir / "predictions" / "test.csv").open() as file:
        return list(csv.DictReader(file))


def oracle_fgsm(run_dir, unit, noise):
    """Success of FGSM by the network that `tune.load` gives, image by image and in float64."""
    loaded = tune.load(run_dir)
    network, transform = loaded.network.double(), loaded.transform
    mean, std = transform.mean.double(), transform.std.double()
    images, fooled, right = Synthetic(3, 90, noise=noise).read().images, 0, 0
    for row in predicted(run_dir):
        label = torch.tensor([loaded.classes.index(row["label"])])
        image = Image.fromarray(images[int(row["row"])]).resize(transform.size, transform.resampling)
        clean = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255).double().requires_grad_()
        logits = network((clean - mean) / std).logits
        torch.nn.functional.cross_entropy(logits, label).backward()
        changed = (clean + unit / 255 * clean.grad.sign()).clamp(0, 1)
        is_right = logits.argmax(1) == label
        fooled += int(is_right & (network((changed - mean) / std).logits.argmax(1) != label))
        right += int(is_right)
    return fooled / right


def test_fgsm_of_a_run_is_what_the_loaded_network_suffers(capsys):
    words = [*CONVNET, "data.noise=0.5", "epochs=8", "evaluate.attack=fgsm", "evaluate.eps=[0.5,4]"]
    run_dir, record = finished(capsys, *words)
    metrics = record["metrics"]
    found = [metrics[f"test/attack_success@{eps}"] for eps in ("0.5", "4")]
    expected = [oracle_fgsm(run_dir, unit, noise=0.5) for unit in (0.5, 4)]
    assert found == pytest.approx(expected, abs=0.07)  # one row of those that were right, for what is rounded
    assert found[1] > 0
    assert record["attack"]["rows"] == 18
    assert record["attack"]["clean_accuracy"] == pytest.approx(metrics["test/accuracy"], abs=0.06)
    low, high = record["intervals"]["test/attack_accuracy@4"]
    assert low <= metrics["test/attack_accuracy@4"] <= high


def test_a_finished_run_is_attacked_as_it_would_have_been_at_its_end(capsys):
    words = ["evaluate.attack=pgd", "evaluate.eps=[2,8]", "evaluate.steps=2", "evaluate.rows=12"]
    run_dir, record = finished(capsys, "freeze=mid", *words)
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    told = answer(
        capsys, "evaluate", run_dir.name[-6:], "--attack", "pgd", "--eps", "2,8", "--steps", "2", "--rows", "12"
    )
    attacked = {name: value for name, value in record["metrics"].items() if "attack" in name}
    assert told["metrics"] == pytest.approx(attacked)
    assert len(attacked) == 4
    assert {path for path in run_dir.rglob("*") if path.is_file()} - before.keys() == {run_dir / "attacks" / "pgd.json"}
    assert all(path.read_bytes() == content for path, content in before.items())
    written = json.loads((run_dir / "attacks" / "pgd.json").read_text())
    assert written["metrics"] == told["metrics"]
    assert (written["steps"], written["rows"], written["eps"]) == (2, 12, [2, 8])


@pytest.mark.parametrize("words", [["freeze=deep"], ["freeze=mid"], ["freeze=gradual", "epochs=5"], [*CONVNET]])
def test_without_an_attack_a_finished_run_is_measured_as_it_was(capsys, words):
    run_dir, record = finished(capsys, "data.noise=0.5", *words)
    told = answer(capsys, "evaluate", str(run_dir))
    expected = {name: value for name, value in record["metrics"].items() if name.startswith("test/")}
    assert told["metrics"] == pytest.approx(expected, abs=1e-6)
    assert not (run_dir / "attacks").exists()


def test_a_teachers_attack_is_made_where_the_freezing_ends(capsys):
    words = ["evaluate.attack=teacher", "evaluate.eps=[8]", "evaluate.steps=2"]
    _, mid = finished(capsys, "freeze=mid", *words)
    _, full = finished(capsys, "freeze=full", "lr=1e-3", *words)
    assert mid["attack"]["features"].startswith("behind blocks.")
    assert full["attack"]["features"] == "at the backbone's output"
    assert all("efficientnet-lite0" in each["attack"]["teacher"] for each in (mid, full))
    assert all(0 <= each["metrics"]["test/attack_success@8"] <= 1 for each in (mid, full))


def test_a_student_from_random_weights_has_no_teacher_until_one_is_named(capsys):
    words = ["run", *SMALL, "freeze=full", "backbone.weights=none", "evaluate.attack=teacher", "evaluate.steps=1"]
    assert "random weights" in problems(capsys, *words)["evaluate.attack"]
    assert "no file" in problems(capsys, *words, "evaluate.teacher=pakage")["evaluate.teacher"]
    assert "no teacher" in problems(capsys, *words, "evaluate.teacher=none")["evaluate.teacher"]
    assert not Path("outputs").exists()
    _, record = finished(capsys, *words[-4:], "evaluate.teacher=package")
    assert "efficientnet-lite0" in record["attack"]["teacher"]


def test_naming_a_teacher_changes_no_number_of_the_training(capsys):
    words = ["freeze=full", "backbone.weights=none", "epochs=1"]
    attack = ["evaluate.attack=teacher", "evaluate.steps=1", "evaluate.teacher=package", "evaluate.rows=3"]
    _, plain = finished(capsys, *words)
    _, attacked = finished(capsys, *words, *attack)
    assert plain["metrics"] == {name: attacked["metrics"][name] for name in plain["metrics"]}


def test_a_fitted_head_suffers_the_teachers_attack_alone(capsys):
    words = ["head=sklearn", "head.name=logistic_regression", "data.noise=0.5"]
    words = [*SMALL[:3], *words, "evaluate.attack=teacher", "evaluate.eps=[16]", "evaluate.steps=2"]
    told = answer(capsys, "run", *words)
    assert told["metrics"]["test/attack_accuracy@16"] < told["metrics"]["test/accuracy"]
    again = answer(capsys, "evaluate", told["run_dir"], "--attack", "teacher", "--eps", "16", "--steps", "2")
    assert again["metrics"]["test/attack_success@16"] == pytest.approx(told["metrics"]["test/attack_success@16"])
    plain = answer(capsys, "evaluate", told["run_dir"])["metrics"]
    assert plain["test/accuracy"] == told["metrics"]["test/accuracy"]
    assert "needs a gradient" in problems(capsys, "evaluate", told["run_dir"], "--attack", "pgd")["--attack"]


def test_what_cannot_be_attacked_is_refused_before_anything_starts(capsys):
    words = ["run", *SMALL, *CONVNET, "evaluate.attack=fgsm"]
    assert "there are none" in problems(capsys, *words, "data.split.test=0")["evaluate.attack"]
    assert "the test part has 18" in problems(capsys, *words, "evaluate.rows=19")["evaluate.rows"]
    assert "in (0, 255]" in problems(capsys, *words, "evaluate.eps=[300]")["evaluate.eps.0"]
    assert not Path("outputs").exists()


def test_flags_are_judged_before_the_run_is_looked_for(capsys):
    told = problems(capsys, "evaluate", "nothing", "--attack", "pgdd", "--eps", "0,8", "--steps", "x", "--rows", "-1")
    assert set(told) == {"--attack", "--eps", "--steps", "--rows"}
    assert "has no effect without" in problems(capsys, "evaluate", "nothing", "--eps", "8")["--eps"]
    assert "has no effect with" in problems(capsys, "evaluate", "x", "--attack", "fgsm", "--steps", "3")["--steps"]
    assert "no such run" in problems(capsys, "evaluate", "nothing", "--attack", "fgsm")["nothing"]


def test_a_run_is_measured_on_its_own_test_part_or_not_at_all(capsys):
    root = Path("photos")
    for k, colour in enumerate([(200, 30, 30), (30, 200, 30)]):
        (root / str(k)).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (20, 20), tuple(c + number for c in colour)).save(root / str(k) / f"{number}.png")
    told = answer(capsys, "run", *CONVNET, "data.root=photos", "epochs=1")
    assert answer(capsys, "evaluate", "latest")["metrics"]["test/accuracy"] == told["metrics"]["test/accuracy"]
    name = Path(told["run_dir"]).name[-6:]
    assert "the test part has 8" in problems(capsys, "evaluate", "latest", "--attack", "fgsm", "--rows", "99")["--rows"]
    Image.new("RGB", (20, 20)).save(root / "0" / "another.png")
    assert "the data changed" in problems(capsys, "evaluate", "latest")[name]


def test_a_run_without_test_rows_is_not_measured(capsys):
    run_dir, _ = finished(capsys, *CONVNET, "data.split.test=0")
    assert "no test part" in problems(capsys, "evaluate", "latest")[run_dir.name[-6:]]
    assert "there are none" in problems(capsys, "evaluate", "latest", "--attack", "fgsm")["--attack"]


@pytest.mark.slow
def test_a_sweep_draws_what_is_inherited_and_its_trials_are_attacked_whole(capsys):
    words = ["evaluate.attack=teacher", "evaluate.eps=[8]", "evaluate.steps=1", "evaluate.rows=9"]
    assert main(["run", "-m", *SMALL, "epochs=1", "freeze=deep,mid", *words]) == 0
    told = capsys.readouterr().out
    assert "attack success at 8 /255" in told
    (picture,) = Path("outputs").glob("run/sweep-*/attacks.png")
    assert str(picture) in told
    for number in ("1", "2"):  # these hold only what trained
        record = json.loads((picture.parent / number / "run.json").read_text())
        name = f"{picture.parent.name.removeprefix('sweep-')}#{number}"
        flags = ["--attack", "teacher", "--eps", "8", "--steps", "1", "--rows", "9"]
        again = answer(capsys, "evaluate", name, *flags)["metrics"]
        assert again == pytest.approx({key: record["metrics"][key] for key in again})


def test_an_attack_keeps_trials_apart_and_counts_in_the_ledger():
    configs = [
        compose(ConfigTree(), ["data=synthetic", *words]).cfg
        for words in (
            [],
            ["evaluate.attack=null"],
            ["evaluate.attack=fgsm"],
            ["evaluate.attack=fgsm", "evaluate.eps=[1]"],
        )
    ]
    assert [fuse_key(config) is None for config in configs] == [False, False, True, True]
    assert len({ledger_key(config, "") for config in configs[1:]}) == 3
