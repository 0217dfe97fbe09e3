from __future__ import annotations

import pytest

from tune.config import gate
from tune.errors import ConfigError


@pytest.mark.parametrize(
    "target",
    [
        "tune.losses.focal.Focal",
        "tune.train.optim.adamw",
        "pytorch_lightning.trainer.trainer.Trainer",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.loggers.CSVLogger",
    ],
)
def test_ours_and_the_listed_names_pass(target):
    assert gate.refusal(target) == ""


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.open",
        "builtins.eval",
        "subprocess.run",
        "urllib.request.urlopen",
        "shutil.copy",
        "asyncio.run",
        "torch.load",
        "torch.hub.load",
        "hydra.utils.instantiate",
        "pytorch_lightning.callbacks.LambdaCallback",
        "pytorch_lightning.trainer.trainer.os.system",
        "tune.cli.main.main",
        "tune.run_dir.atomic_write",
        "tune.losses.focal.torch.load",
        "tune.losses.focal.F",
        "tune.losses",
        "tune",
        "open",
        "",
        "os:system",
        "tune.losses.focal.Focal.__init__.__globals__",
        None,
        3,
        ["os.system"],
        {"a": "b"},
    ],
)
def test_everything_else_is_refused(target):
    assert gate.refusal(target) != ""


def test_an_allowed_module_cannot_pass_on_what_it_imported(project):
    project.file(
        "mine.py",
        "from os import system\nfrom tune.losses.focal import Focal\nimport os\nrun = system\nclass Own: ...\n",
    )
    project.file("mine_too.py", "class Other: ...\n")
    assert gate.refusal("mine.Own", ["mine"]) == ""
    assert gate.refusal("mine.Focal", ["mine"]) == ""
    for name in ("mine.system", "mine.run", "mine.os.system", "mine_too.Other"):
        assert gate.refusal(name, ["mine"]) != ""


def test_a_package_is_allowed_with_all_its_modules(project):
    project.file("mine/__init__.py", "from .deep import Loss\n")
    project.file("mine/deep.py", "class Loss: ...\n")
    for name in ("mine.Loss", "mine.deep.Loss"):
        assert gate.refusal(name, ["mine"]) == ""


def test_every_target_and_every_key_of_hydra_is_found_in_a_whole_config():
    cfg = {
        "loss": {"_target_": "tune.losses.focal.Focal", "_partial_": True},
        "list": [{"x": {"_target_": "os.system", "_args_": ["ls"]}}],
    }
    assert {problem.key for problem in gate.problems(cfg)} == {"loss._partial_", "list.0.x._args_", "list.0.x._target_"}


def test_modules_come_from_the_command_line_and_from_pyproject(project):
    project.file("pyproject.toml", '[tool.tune]\nallow = ["b", "a"]\n')
    assert gate.allowed_by_user(["a,c", "d.e"]) == ["a", "c", "d.e", "b"]


@pytest.mark.parametrize("text", ['[tool.tune]\nallow = "mine"\n', "[tool.tune\n", '[tool.tune]\nallow = ["a b"]\n'])
def test_a_pyproject_that_makes_no_sense_is_told(project, text):
    project.file("pyproject.toml", text)
    with pytest.raises(ConfigError):
        gate.allowed_by_user()


def test_a_path_is_no_module_name():
    with pytest.raises(ConfigError, match="is no module name"):
        gate.allowed_by_user(["my_losses.py/"])
