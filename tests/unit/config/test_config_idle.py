"""Keys that are set and that nothing reads: each is told by its name and place, on the command line and in a file."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from tune.cli.main import main
from tune.config.check import check
from tune.config.compose import ConfigTree, expand
from tune.train.rows import judge

BASE = "data=synthetic"
GROUPS = ConfigTree().groups_of_run()

PLANTED = [
    # words, the key that is told, and words with which the same key is read
    (["regularize.min_delta=0.01"], "regularize.min_delta", ["regularize.early_stopping=3"]),
    (["backbone.drop_path=0.1"], "backbone.drop_path", ["freeze=full"]),
    (["compile=never", "freeze=full"], "compile", ["freeze=mid"]),
    (["cache.max_gb=3", "cache=never"], "cache.max_gb", ["cache=auto"]),
    (["ensemble.folds=3", "ensemble=average"], "ensemble.folds", ["ensemble=stacking"]),
    (["ensemble.vary=rows"], "ensemble.vary", ["ensemble=seeds"]),
    (["evaluate.eps=[2]"], "evaluate.eps", ["evaluate.attack=fgsm"]),
    (["evaluate.teacher=none", "evaluate.attack=pgd"], "evaluate.teacher", ["evaluate.attack=teacher"]),
    (["guard=false"], "guard", ["data=domains"]),
    (["monitor=false", "head=sklearn"], "monitor", ["head=linear"]),
    (["epoch_steps=3", "head=sklearn"], "epoch_steps", ["head=linear"]),
    (["head.activation=gelu"], "head.activation", ["head=mlp"]),
]
IN_FILES = [case for case in PLANTED if "head=sklearn" not in case[0]]  # what a file sets is let be beside that head


def as_file(words):
    """The same words as an experiment of one's own."""
    content = {"defaults": []}
    for key, value in (word.split("=") for word in words):
        if key in GROUPS:
            content["defaults"].append({f"override /{key}": value})
            continue
        node, (*above, last) = content, key.split(".")
        for name in above:
            node = node.setdefault(name, {})
        node[last] = yaml.safe_load(value)
    return "# Mine.\n" + yaml.safe_dump(content, sort_keys=False)


@pytest.mark.parametrize(("words", "key", "cure"), PLANTED, ids=[key for _, key, _ in PLANTED])
def test_a_typed_key_that_nothing_reads_is_told_and_is_fine_where_something_does(project, words, key, cure):
    assert key in project.told(BASE, *words)
    assert key not in project.told(BASE, *words, *cure)


@pytest.mark.parametrize(("words", "key", "cure"), IN_FILES, ids=[key for _, key, _ in IN_FILES])
def test_a_key_of_an_experiment_that_nothing_reads_is_told_with_its_line(project, words, key, cure):
    project.write(experiment__mine=as_file([BASE, *words]))
    text = (project.folder / "conf/experiment/mine.yaml").read_text().splitlines()
    line = 1 + next(n for n, each in enumerate(text) if each.strip().startswith(f"{key.rpartition('.')[2]}:"))
    (found,) = [each for each in check(project.compose("experiment=mine"), ConfigTree()) if each.key == key]
    assert found.where == f"conf/experiment/mine.yaml:{line}"
    assert key not in project.told("experiment=mine", *cure)


def test_a_head_without_dropout_is_told_of(project, monkeypatch):
    project.file("my_heads.py", "class Bare:\n    def __init__(self, feature_dim: int, num_classes: int): ...\n")
    project.write(head__bare="# Bare.\n_target_: my_heads.Bare\n")
    monkeypatch.syspath_prepend(project.folder)
    composed = project.compose(BASE, "head=bare", "regularize.dropout=0.2")
    assert (
        "drops nothing"
        in {each.key: each.text for each in check(composed, ConfigTree(), ["my_heads"])}["regularize.dropout"]
    )
    assert check(project.compose(BASE, "head=bare", "regularize=dropout"), ConfigTree(), ["my_heads"]) == []


def test_what_an_option_sets_is_let_be(project):
    project.write(cache__mine="# Mine.\nmode: never\nmax_gb: 3\n")
    assert project.told(BASE, "cache=mine") == {}


def test_an_experiment_can_be_tried_with_an_option_that_makes_a_key_of_it_idle(project):
    project.write(experiment__mine=f"# Mine.\ndefaults: [override /data: synthetic, override /freeze: full]\n{DROP}")
    assert project.told("experiment=mine") == project.told("experiment=mine", "freeze=deep") == {}


DROP = "backbone:\n  drop_path: 0.1\n"


def test_an_axis_of_a_sweep_may_make_a_key_idle_in_some_trials(project):
    words = [BASE, "backbone.drop_path=0.1", "freeze=deep,full", "regularize.early_stopping=0,5"]
    trials = expand(ConfigTree(), [*words, "regularize.min_delta=0.01"])
    assert [problem for trial in trials for problem in check(trial, ConfigTree())] == []


def test_a_stack_and_members_of_its_own_are_no_reason_in_the_runs_that_they_are_made_of(project):
    for words in (["ensemble=stacking", "ensemble.folds=3"], ["ensemble=seeds", "ensemble.vary=rows"]):
        trials = expand(ConfigTree(), [BASE, "head=linear,mlp", *words])
        assert len(trials) > 2
        assert [problem for trial in trials for problem in check(trial, ConfigTree())] == []


def test_a_key_that_every_stage_sets_again_is_told(project):
    chain = "# Mine.\ndefaults: [override /data: synthetic]\nepochs: 7\n"
    chain += "stages:\n  - [epochs=1, seed=1]\n  - [epochs=2]\nseed: 3\n"
    project.write(experiment__mine=chain)
    told = project.told("experiment=mine")
    assert list(told) == ["epochs"]
    assert "every stage sets it" in told["epochs"]
    assert project.told("experiment=mine", "epochs=3") == {}  # it takes the place of what the stages say


def test_a_split_that_the_data_have_made_leaves_nothing_to_cut(project):
    labels = np.tile([0, 1], 20)
    split = np.repeat(["train", "val", "test", "train"], 10)
    np.savez(project.folder / "a.npz", images=np.zeros((40, 4, 4), np.uint8), labels=labels, split=split)

    def keys(*words):
        cfg = project.compose("data=arrays", "data.file=a.npz", *words).cfg
        return {problem.key for problem in judge(cfg)[0]}

    assert keys() == set()
    idle = ["test=0.3", "val=0.1", "stratify=label", "blocks=4"]
    assert keys(*(f"data.split.{word}" for word in idle)) == {f"data.split.{word.split('=')[0]}" for word in idle}
    assert keys("data.split.per_class=3", "data.split.seed=4") == set()


def test_a_run_on_its_own_says_that_it_does_not_read_what_is_for_sweeps(project, capsys):
    words = ["run", BASE, "data.rows=60", "backbone.weights=none", "backbone.input_size=32", "sweep.jobs=4"]
    assert main([*words, "--dry-run"]) == 0
    assert "note: sweep.jobs (command line) has no effect on a run on its own" in capsys.readouterr().err
    assert main([*words[:-1], "--dry-run"]) == 0
    assert "sweep.jobs" not in capsys.readouterr().err
