"""The built wheel works by itself: outside the repository, with its own configs, and with the user's beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FEW = ["data.rows=60", "backbone.input_size=32", "epochs=1"]
LOSS = '''
import torch

class Squares(torch.nn.Module):
    """Squared distance between the probabilities and the label."""

    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.factor = factor

    def forward(self, output, batch):
        return self.factor * (output.logits.softmax(dim=1) - batch.label_probs).square().sum(dim=1).mean()
'''
MINE = """# Mine.
defaults:
  - smoke/deep
  - override /loss: squares
  - _self_
loss:
  factor: 2.0
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that holds the wheel as pip would unpack it: there is nothing to compile."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def run_installed(installed, tmp_path):
    """Run the installed tune, not the checkout: its folder comes before everything else that Python finds."""
    env = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(*command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=env
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def test_the_wheel_holds_code_and_every_config_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    sources = [path for kind in ("py", "css") for path in (ROOT / "src").rglob(f"*.{kind}")]
    code = {path.relative_to(ROOT / "src").as_posix() for path in sources}
    configs = {f"tune/conf/{path.relative_to(ROOT / 'conf').as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert {name for name in names if ".dist-info/" not in name} == code | configs
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "tune = tune.cli.main:entry" in entry_points
    assert "tunex = tune.cli.main:entry" in entry_points


def test_the_installed_package_is_the_one_that_runs(run_installed, installed):
    code = "import tune, hydra_plugins.tune_search_path as p; print(tune.__file__); print(p.__file__)"
    for line in run_installed("-c", code).stdout.splitlines():
        assert Path(line).is_relative_to(installed)


@pytest.mark.slow
def test_the_installed_package_checks_its_own_configs(run_installed, installed):
    told = json.loads(run_installed("-m", "tune", "validate", "all", "--json").stdout)
    assert told["status"] == "ok"
    assert len(told["checked"]) >= len(list((installed / "tune" / "conf" / "experiment").rglob("*.yaml")))


def test_the_installed_package_runs_an_experiment(run_installed, tmp_path):
    done = run_installed("-m", "tune", "run", "+experiment=smoke/deep", *FEW, "--json")
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["status"] == "done"
    assert (tmp_path / answer["run_dir"] / "model.safetensors").is_file()


def test_it_runs_an_experiment_and_a_loss_of_the_users_own(run_installed, tmp_path):
    (tmp_path / "my_losses.py").write_text(LOSS)
    for name, text in (("experiment/mine", MINE), ("loss/squares", "# Squares.\n_target_: my_losses.Squares\n")):
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    refused = run_installed("-m", "tune", "run", "+experiment=mine", *FEW, code=2)
    assert "--allow my_losses" in refused.stderr
    assert not (tmp_path / "outputs").exists()
    done = run_installed("-m", "tune", "run", "+experiment=mine", *FEW, "--allow", "my_losses", "--json")
    run_dir = tmp_path / json.loads(done.stdout.splitlines()[-1])["run_dir"]
    assert run_dir.parent.name == "mine"
    assert "_target_: my_losses.Squares" in (run_dir / "config.yaml").read_text()
