"""Finished runs run again, through the real command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from folders import write_photos
from tune.cli.main import main
from tune.data.readers.synthetic import Synthetic
from tune.run_dir import run_id

NET = ["backbone=convnet", "backbone.depth=2", "backbone.input_size=16", "freeze=full", "epochs=2"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def kept(trained):
    """A run on photographs."""
    write_photos(Synthetic(2, 60, noise=0.5).read())
    return trained(*NET, "data=folder", "data.root=photos", "augment=mild", "name=first")


@pytest.fixture
def run_dir(kept):
    """A copy of the run, which a test may change."""
    copy = kept.parent.parent / "copy" / kept.name
    shutil.rmtree(copy.parent, ignore_errors=True)
    shutil.copytree(kept, copy)
    return copy


def answer(capsys, *words, code=0):
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out.splitlines()[-1]), said


def change(run_dir, **values):
    record = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(record | values))
    return record


def test_the_same_config_gives_the_same_numbers(run_dir, capsys):
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    found, said = answer(capsys, "reproduce", str(run_dir))
    assert found["exact"] is found["reproduced"] is True
    assert found["weights"]["differing"] == 0
    again = Path(found["again"])
    assert (again / "model.safetensors").read_bytes() == (run_dir / "model.safetensors").read_bytes()
    assert (again / "predictions/test.csv").read_text() == (run_dir / "predictions/test.csv").read_text()
    assert all(path.read_bytes() == content for path, content in before.items())
    assert "reproduced exactly" in said.out
    assert all(each["then"] == each["now"] for each in found["metrics"].values())
    listed = answer(capsys, "ls", "runs", "reproduces", "--output", str(again.parent.parent))[0]["runs"]
    assert [(row["run_dir"], row["overrides"].endswith(f"(reproduces {run_id(run_dir)})")) for row in listed] == [
        (str(again), True)
    ]


def test_a_weight_that_is_not_the_same_is_found_out(run_dir, capsys):
    state = load_file(run_dir / "model.safetensors")
    name = next(name for name in state if name.startswith("head."))
    state[name].view(-1)[0] += 1e-6
    save_file(state, run_dir / "model.safetensors")
    found, said = answer(capsys, "reproduce", str(run_dir), code=4)
    assert found["reproduced"] is False
    assert found["weights"]["differing"] == 1
    assert found["weights"]["by"] == pytest.approx(1e-6, rel=0.2)
    assert "NOT reproduced" in said.out


def test_with_other_versions_metrics_must_lie_in_the_interval_of_then(run_dir, capsys):
    record = change(run_dir)
    versions = {**record["versions"], "timm": "0.0.1"}
    metrics = {name: value + 1e-4 for name, value in record["metrics"].items()}
    change(run_dir, versions=versions, metrics=metrics)
    found, said = answer(capsys, "reproduce", str(run_dir))
    assert found["exact"] is False
    assert found["reproduced"] is True
    assert found["not_exact_since"] == "versions differ"
    assert "timm 0.0.1 then" in said.err
    change(run_dir, intervals={"test/accuracy": [1.5, 1.6]})
    found, said = answer(capsys, "reproduce", str(run_dir), code=4)
    assert "test/accuracy outside" in said.out


def test_changed_data_are_refused_unless_anyway(run_dir, capsys):
    one = sorted(Path("photos/disk").iterdir())[0]
    extra = one.with_name("zz.png")
    extra.write_bytes(one.read_bytes())
    try:
        assert main(["reproduce", str(run_dir)]) == 2
        assert "60 rows then, 61 now" in (err := capsys.readouterr().err)
        assert "--anyway" in err
        found, _ = answer(capsys, "reproduce", str(run_dir), "--dry-run")
        assert [each["what"] for each in found["differences"]] == ["data"]
        main(["reproduce", str(run_dir), "--anyway", "--json"])  # any verdict
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert json.loads((Path(found["again"]) / "run.json").read_text())["counts"]["train"] > 0
        assert found["exact"] is False
    finally:
        extra.unlink()


def test_first_weights_that_changed_are_refused(run_dir, capsys):
    change(run_dir, weights={"source": "somewhere", "digest": "0" * 64})
    assert main(["reproduce", str(run_dir)]) == 2
    err = capsys.readouterr().err
    assert "weights: somewhere had 000000000000" in err
    assert "the weights changed" in err


def test_a_dry_run_starts_nothing_and_needs_no_torch(run_dir):
    before = set(Path("outputs").rglob("run.json"))
    code = "import sys; from tune.cli.main import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "reproduce", str(run_dir), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "0 differences" in done.stdout
    assert set(Path("outputs").rglob("run.json")) == before


@pytest.mark.parametrize(("status", "text"), [("failed", "only a run that is done"), ("running", "is running")])
def test_a_run_that_is_not_done_is_not_reproduced(run_dir, capsys, status, text):
    change(run_dir, status=status)
    assert main(["reproduce", str(run_dir), "--dry-run"]) == 2
    assert text in capsys.readouterr().err
