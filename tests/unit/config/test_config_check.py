from __future__ import annotations

import math
import subprocess
import sys

import pytest

from tune.config.check import check
from tune.config.compose import ConfigTree

# Data that need no folder, so that what a test asks about is the only problem.
BASE = "data=synthetic"


def test_the_default_run_is_right(project):
    assert project.problems() == []
    assert project.problems(BASE) == []


def test_a_value_that_only_the_user_can_give_is_asked_for(project):
    assert "needs a value" in project.told(BASE, "backbone=timm")["backbone.name"]
    assert project.told(BASE, "backbone=timm", "backbone.name=resnet18") == {}


@pytest.mark.parametrize(
    ("word", "key", "said"),
    [
        ("lerning_rate=1", "lerning_rate", "unknown. Did you mean lr, now 1e-3?"),
        ("+lerning_rate=1", "lerning_rate", "unknown. Did you mean lr, now 1e-3?"),
        ("lr=abc", "lr", "must be a number in (0, inf) or auto, not 'abc'"),
        ("lr=nan", "lr", "must be a finite number, not nan"),
        ("lr=.nan", "lr", "must be a number in (0, inf) or auto, not '.nan'"),
        ("lr=inf", "lr", "must be a finite number, not inf"),
        ("lr=0", "lr", "must be a number in (0, inf), not 0"),
        ("lr=true", "lr", "must be a number, not true"),
        ("lr=null", "lr", "must be a number in (0, inf) or auto, not null"),
        ("batch_size=0", "batch_size", "must be a whole number in [1, inf), not 0"),
        ("batch_size=1.5", "batch_size", "must be a whole number, not 1.5"),
        ("epochs=-1", "epochs", "must be a whole number in [1, inf), not -1"),
        ("epochs=null", "epochs", "must be a whole number, not null"),
        ("seed=-1", "seed", "in [0, 4294967295]"),
        ("name=3", "name", "must be text or null, not 3"),
        ("precision=fp8", "precision", "must be one of auto, 32-true"),
        ("data.split.val=1.2", "data.split.val", "must be a number in (0, 1), not 1.2"),
        ("data.split.test=1", "data.split.test", "in [0, 1)"),
        ("data.split.sed=1", "data.split.sed", "Did you mean data.split.seed, now 0?"),
        ("data.split.stratify=[p,3]", "data.split.stratify.1", "must be text, not 3"),
        ("data.split=3", "data.split", "must be a mapping with val, test"),
        ("data.fit=squash", "data.fit", "must be one of crop, stretch, pad, not 'squash'"),
        ("data.root=/nowhere", "data.root", "It belongs to data=csv and data=folder"),
        ("regularize.dropout=1", "regularize.dropout", "must be a number in [0, 1), not 1"),
        ("regularize.dropot=0.1", "regularize.dropot", "Did you mean regularize.dropout, now 0.0?"),
        ("freeze.rules.head=yes", "freeze.rules.head", "must be one of trained, frozen"),
        ("optimizer.lr=1", "optimizer.lr", "is a key of the run: set lr"),
        ("optimizer.weight_decay=1", "optimizer.weight_decay", "set regularize.weight_decay"),
        ("optimizer.betas=[2,0.9]", "optimizer.betas.0", "in [0, 1)"),
        ("head.dropout=0.1", "head.dropout", "set regularize.dropout"),
        ("head.num_classes=3", "head.num_classes", "is found out by the run itself"),
        ("loss.label_smoothing=0.1", "loss.label_smoothing", "Did you mean regularize.label_smoothing, now 0.0?"),
        ("trainer.max_epochs=3", "trainer.max_epochs", "set epochs"),
        ("trainer.callbacks=[a]", "trainer.callbacks", "are chosen by the run"),
        ("trainer.gradient_clip_vall=1", "trainer.gradient_clip_vall", "Did you mean trainer.gradient_clip_val"),
        ("trainer.num_nodes=two", "trainer.num_nodes", "must be a whole number, not 'two'"),
        ("imgsz=320", "imgsz", "Did you mean backbone.input_size"),
        ("batch=3", "batch", "Did you mean batch_size, now 32?"),
        ("lr0=3", "lr0", "Did you mean lr, now 1e-3?"),
        ("optim.lr=3", "optim.lr", "Did you mean lr, now 1e-3?"),
        ("model.name=x", "model.name", "Did you mean backbone.name, now tf_efficientnet_lite0?"),
        ("dataset=elpv", "dataset", "Did you mean data=…?"),
        ("max_epochs=3", "max_epochs", "Did you mean epochs, now 10?"),
        ("xyzzy=3", "xyzzy", "There are: data, backbone"),
        ("objective=test/accuracy", "objective", "test rows would flatter"),
        ("objective=val/acuracy", "objective", "must be one of val/accuracy"),
        ("backbone=resnet5", "backbone", "Did you mean resnet50 or lenet?"),
        ("experiment=quikstart", "experiment", "Did you mean quickstart?"),
        ("backbone.name=resnet5", "backbone.name", "timm has no model called 'resnet5'. Did you mean resnet50"),
        ("backbone.name=resnet50.a1_in1k", "", ""),
        ("data=null", "data", "cannot be left out"),
        ("~optimizer", "optimizer", "cannot be left out"),
        ("~lr", "lr", "cannot be left out"),
        ("sweep.jobs=0", "sweep.jobs", "in [1, 1024]"),
        ("sweep.job=2", "sweep.job", "Did you mean sweep.jobs, now 1?"),
        ("loss._target_=os.system", "loss._target_", "os.system is not allowed"),
        ("loss._target_=tune.losses.focal.Focall", "loss._target_", "Did you mean tune.losses.focal.Focal?"),
        ("loss._partial_=true", "loss._partial_", "is not used here"),
        ("loss={_target_: 3}", "loss._target_", "is no dotted name"),
        (
            "expected={metric: test/accuracy, value: x, within: 1, minutes: 1}",
            "expected.value",
            "must be a number, not 'x'",
        ),
        ("expected={metric: test/accuracy, value: 1, within: 1}", "expected.minutes", "needs a value"),
    ],
)
def test_a_mistake_is_told_by_its_key_with_what_to_do(project, word, key, said):
    words = [word] if word.startswith("data=") else [BASE, word]
    told = project.told(*words)
    assert list(told) == ([key] if key else [])
    assert said in told.get(key, "")


def test_what_the_command_line_says_is_said_to_come_from_there(project):
    assert {problem.where for problem in project.problems(BASE, "lr=abc", "+x.y=1", "head=lineer")} == {"command line"}


def test_all_problems_come_at_once_and_always_in_the_same_order(project):
    words = [
        BASE,
        "lr=abc",
        "batch_size=0",
        "optimizer.beta=0.8",
        "lerning_rate=3e-4",
        "backbone=resnet5",
        "trainer.max_epochs=1",
    ]
    problems = project.problems(*words)
    assert [problem.key for problem in problems] == [
        "backbone",
        "lr",
        "batch_size",
        "optimizer.beta",
        "trainer.max_epochs",
        "lerning_rate",
    ]
    assert project.problems(*words) == problems


def test_the_sentence_about_an_unknown_key_is_the_one_that_ux_promises(project):
    told = project.told("experiment=quickstart", "optimizer.beta=0.8")
    assert told["optimizer.beta"].startswith(
        "unknown. Did you mean optimizer.betas, now [0.9, 0.999]?  optimizer=adamw takes: betas, "
    )


def test_an_experiment_that_is_not_there_says_where_it_was_looked_for(project):
    project.write(experiment__mine="lr: 1\n")
    (problem,) = project.problems("experiment=min", "optimizer.nesterov=true")
    assert "Did you mean mine?" in problem.text
    assert "Looked in conf/experiment, " in problem.text


def test_a_typo_in_a_users_file_comes_with_file_and_line(project):
    text = "# @package _global_\n# Mine.\ndefaults:\n  - override /data: synthetic\n\noptimizer:\n  beta: 3\n"
    project.write(experiment__mine=text)
    (problem,) = project.problems("experiment=mine")
    assert (problem.key, problem.where) == ("optimizer.beta", "conf/experiment/mine.yaml:7")


def test_a_value_on_a_group_is_told_how_to_choose(project):
    project.write(experiment__mine="data: digits\nfreeze: 3\n")
    told = project.told("experiment=mine")
    assert "write `- override /data: digits` under `defaults:`" in told["data"]
    assert "is a group of options, not 3" in told["freeze"]


def test_a_target_that_may_not_be_named_is_refused_wherever_it_stands(project):
    text = "defaults:\n  - override /data: synthetic\nfreeze:\n  rules:\n    head:\n      _target_: os.system\n"
    project.write(experiment__mine=text)
    problems = project.problems("experiment=mine")
    assert ("freeze.rules.head._target_", "conf/experiment/mine.yaml:6") in {
        (each.key, each.where) for each in problems
    }


LOSS = """
    from typing import Annotated
    from os import system

    from tune.losses.interface import Loss
    from tune.losses.focal import Focal
    from tune.ranges import Range

    Share = Annotated[float, Range("[0, 1]")]

    class Mine(Loss):
        def __init__(self, part: Share, parts: "list[Share] | None" = None): ...

    def by_function(power: int = 2): ...
"""


def test_a_users_own_module_is_checked_like_ours_once_it_is_allowed(project):
    project.file("my_losses.py", LOSS)
    project.write(loss__mine="# Mine.\n_target_: my_losses.Mine\n")
    assert "--allow my_losses" in project.told(BASE, "loss=mine")["loss._target_"]
    allow = ("my_losses",)
    assert list(project.told(BASE, "loss=mine", allow=allow)) == ["loss.part"]
    assert project.told(BASE, "loss=mine", "loss.part=0.5", "loss.parts=[0,1]", allow=allow) == {}
    assert (
        "in [0, 1]" in project.told(BASE, "loss=mine", "loss.part=0", "loss.parts=[0,2]", allow=allow)["loss.parts.1"]
    )
    assert "takes: part, parts" in project.told(BASE, "loss=mine", "loss.part=0", "loss.x=1", allow=allow)["loss.x"]
    assert project.told(BASE, "loss._target_=my_losses.by_function", allow=allow) == {}


def test_pyproject_can_allow_a_module_and_a_yaml_cannot(project):
    project.file("my_losses.py", LOSS)
    project.file("pyproject.toml", '[tool.tune]\nallow = ["my_losses"]\n')
    assert project.told(BASE, "loss._target_=my_losses.by_function") == {}
    project.file("pyproject.toml", "[tool.tune]\n")
    text = "tool: {tune: {allow: [my_losses]}}\nallow: [my_losses]\nloss:\n  _target_: my_losses.by_function\n"
    project.write(experiment__mine=text)
    assert {"loss._target_", "allow", "tool.tune.allow"} <= set(project.told(BASE, "experiment=mine"))


def test_a_module_with_a_syntax_error_is_told_with_its_line(project):
    project.file("my_losses.py", "x = 1\ndef (:\n")
    told = project.told(BASE, "loss._target_=my_losses.Mine", allow=("my_losses",))
    assert "my_losses.py is no valid Python, line 2" in told["loss._target_"]


def test_trials_of_a_sweep_are_judged_one_by_one(project):
    trials = project.expand(BASE, "lr=1e-3,-1", "head=linear,mlp")
    assert [len(check(trial, ConfigTree())) for trial in trials] == [0, 0, 1, 1]


def test_nothing_here_imports_torch(project):
    code = (
        "import sys\n"
        "from tune.config.check import check\n"
        "from tune.config.compose import ConfigTree, compose\n"
        "tree = ConfigTree()\n"
        "words = ['experiment=quickstart', 'backbone.name=resnet5', 'loss._target_=torch.nn.Linear']\n"
        "check(compose(tree, words), tree)\n"
        "print([name for name in ('torch', 'timm', 'numpy', 'sklearn', 'pytorch_lightning') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_finite_number_is_all_that_a_number_may_be(project):
    assert not math.isfinite(project.compose("lr=nan").cfg["lr"])
    assert "finite" in project.told(BASE, "backbone.drop_path=nan")["backbone.drop_path"]
