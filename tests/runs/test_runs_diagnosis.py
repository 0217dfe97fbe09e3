"""The verdicts at the end of real runs, and `tune next`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tune.cli.main import main
from tune.cli.results.next import verdict_of
from tune.data.readers.synthetic import Synthetic
from tune.report.diagnosis import diagnose
from tune.report.story import read_story

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

HEAD = ["data=synthetic", "backbone.input_size=32", "data.rows=600"]
LENET = ["data=digits", "backbone=lenet", "freeze=full"]


def ran(capsys, *words, code=0):
    """Run, and give the folder, the verdicts, and what was said on stderr."""
    assert main(["run", *words, "--json"]) == code
    said = capsys.readouterr()
    run_dir = Path(json.loads(said.out.splitlines()[-1])["run_dir"])
    return run_dir, {verdict.name: verdict for verdict in diagnose(read_story(run_dir))}, said.err


def test_tiny_data_without_regularization_is_overfitting(capsys):
    few = ["data.split.per_class=3", "data.split.val=0.1", "data.split.test=0.1"]
    _, found, said = ran(capsys, *LENET, *few, "epochs=15", "lr=1e-2", "batch_size=8")
    assert next(iter(found)) == "overfitting"
    assert "label noise suspected" not in found
    assert "verdict   overfitting: " in said
    assert "try       augment=affine · regularize.dropout=0.3 · regularize.weight_decay=0.1   (tune next " in said


def test_a_rate_far_too_low_is_named_with_the_one_to_try(capsys):
    _, found, _ = ran(capsys, *HEAD, "epochs=5", "lr=1e-6")
    assert next(iter(found)) == "rate too low"
    assert [each.words for each in found["rate too low"].tries[:2]] == [["lr=auto"], ["lr=0.001"]]


@pytest.mark.parametrize("words", [[*LENET, "optimizer=sgd"], [*HEAD, "regularize.l2=1", "precision=32-true"]])
def test_a_rate_beyond_all_bounds_diverges_with_a_finite_loss_or_without(capsys, words):
    code = 5 if "regularize.l2=1" in words else 0
    run_dir, found, said = ran(capsys, *words, "epochs=2", "lr=1e30", code=code)
    assert list(found) == ["diverged"]
    assert "verdict   diverged: " in said
    assert main(["next", str(run_dir), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["run_dir"] == str(run_dir)
    (verdict,) = answer["verdicts"]
    assert verdict["name"] == "diverged"
    assert verdict["tries"][0]["words"][0].startswith("lr=")


def test_a_run_that_learned_is_healthy_and_one_that_ended_early_is_still_improving(capsys):
    _, found, said = ran(capsys, *HEAD, "epochs=15", "lr=1e-2")
    assert list(found) == ["healthy"]
    assert "verdict   healthy: val/accuracy " in said
    _, found, _ = ran(capsys, *HEAD, "epochs=3", "lr=1e-3", "scheduler=constant")
    assert list(found) == ["still improving"]
    assert found["still improving"].tries[0].words == ["epochs=6"]


def test_flipped_labels_are_suspected_and_named(capsys):
    table, draw = Synthetic(classes=3, rows=900).read(), np.random.default_rng(0)
    flipped = draw.random(900) < 0.15
    labels = (table.labels + flipped * draw.integers(1, 3, 900)) % 3
    np.savez("flipped.npz", images=table.images, labels=labels)
    words = ["data=arrays", "data.file=flipped.npz", "backbone.input_size=32", "epochs=8", "lr=1e-2"]
    _, found, _ = ran(capsys, *words)
    evidence = found["label noise suspected"].evidence
    named = [int(word.removesuffix(",")) for word in evidence.partition("look at ")[2].split() if word[0].isdigit()]
    assert len(named) == 5
    assert sum(flipped[named]) >= 4


def test_next_prints_commands_to_paste_that_run(capsys):
    words = [*HEAD, "data.rows=60", "epochs=2", "+experiment=smoke/deep"]
    run_dir, found, _ = ran(capsys, *words)
    assert main(["next", run_dir.name]) == 0
    shown = capsys.readouterr().out
    for verdict in found.values():
        assert f"verdict   {verdict.name}: {verdict.evidence}\n" in shown
    whys = [each.why for verdict in found.values() for each in verdict.tries]
    columns = [line.index(f"  {why}") for line in shown.splitlines() for why in whys if line.endswith(f"  {why}")]
    assert len(columns) == len(whys)
    assert len(set(columns)) <= len(found), "one column for each verdict"
    commands = [line.split() for line in shown.splitlines() if line.startswith("          tune run ")]
    assert len(commands) == sum(len(verdict.tries) for verdict in found.values())
    longer = next(command for command in commands if "epochs=4" in command)
    assert main([*longer[1:], "--dry-run"]) == 0


def test_next_of_a_sweep_a_chain_an_unfinished_run_and_a_fitted_head(capsys):
    run_dir, found, _ = ran(capsys, *HEAD, "data.rows=60", "head=sklearn", "head.name=knn")
    assert list(found) == ["noisy validation"]
    sweep, chain = Path("outputs/run/sweep-5aee4b1e"), Path("outputs/run/chain-9df5e330")
    for trial in (sweep / "2", chain / "stage-1", chain / "stage-2", chain):
        shutil.copytree(run_dir, trial, dirs_exist_ok=True)
    (sweep / "sweep.json").write_text('{"trials": [{}, {}]}')

    for asked in ("5aee", str(sweep)):
        assert main(["next", asked]) == 2
        assert "is a sweep; take one of its trials: 5aee4b1e#1 to 5aee4b1e#2" in capsys.readouterr().err
    assert main(["next", "5aee#2"]) == 0
    assert capsys.readouterr().out.startswith("verdict   noisy validation")

    assert main(["next", str(chain)]) == 2
    assert f"take one of its stages: tune next {chain}/stage-1" in capsys.readouterr().err
    said = []
    verdict_of(chain, said.append)
    assert said[-1].endswith(f"(tune next {chain}/stage-2)")

    (run_dir / "metrics.csv").unlink()
    (run_dir / "run.json").write_text((run_dir / "run.json").read_text().replace('"done"', '"running"'))
    assert main(["next", str(run_dir)]) == 2
    assert "is running and has no epoch behind it: no curve to judge" in capsys.readouterr().err
    said = []
    verdict_of(run_dir, said.append)
    assert said == []


def test_next_imports_no_torch(capsys):
    run_dir, _, _ = ran(capsys, *HEAD, "data.rows=60", "epochs=2", "batch_size=16")
    command = [sys.executable, "-X", "importtime", "-m", "tune", "next", str(run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert not imported & {"torch", "timm", "pytorch_lightning", "torchvision", "sklearn", "matplotlib", "rich"}
