from __future__ import annotations

import pytest

from tune.config.check import check
from tune.config.compose import ConfigTree
from tune.train.fused.group import fuse_key
from tune.train.sweep.ledger import ledger_key

TWO = """
    # @package _global_
    # A chain.
    defaults:
      - override /data: synthetic
      - override /backbone: convnet
      - override /freeze: full

    lr: 1.0e-2
    stages:
      - [data.seed=1, epochs=3]
      - [data.split.per_class=5, head=mlp]
"""


@pytest.fixture
def two(project):
    project.write(experiment__two=TWO)
    return project


def stages_of(composed) -> list[dict]:
    return [stage["config"] for stage in composed.cfg["stages"]]


def test_each_stage_is_a_whole_config_of_its_own(two):
    composed = two.compose("experiment=two", "seed=7")
    first, second = stages_of(composed)
    assert two.problems("experiment=two", "seed=7") == []
    assert (first["data"]["seed"], first["epochs"], first["head"]) == (1, 3, composed.cfg["head"])
    assert (second["data"]["split"], second["epochs"]) == ({"per_class": 5}, 10)
    assert second["head"]["_target_"].endswith("MlpHead")
    for stage in (first, second):
        assert (stage["lr"], stage["seed"], stage["name"], stage["stages"]) == (1e-2, 7, "two", [])
        assert stage.keys() == composed.cfg.keys()
    assert [stage["words"] for stage in composed.cfg["stages"]] == [
        ["data.seed=1", "epochs=3"],
        ["data.split.per_class=5", "head=mlp"],
    ]
    assert [stage["choices"]["head"] for stage in composed.cfg["stages"]] == ["linear", "mlp"]


def test_the_words_of_a_stage_give_its_config_as_a_run_on_its_own(two):
    composed = two.compose("experiment=two", "lr=3e-3")
    for stage in composed.stages:
        assert two.compose(*stage.overrides).cfg == stage.cfg


def test_what_is_typed_stands_in_every_stage_before_the_stages_own_words(two):
    composed = two.compose("experiment=two", "epochs=1", "head=cosine")
    assert [stage["epochs"] for stage in stages_of(composed)] == [1, 1]
    assert all("CosineHead" in stage["head"]["_target_"] for stage in stages_of(composed))
    assert [stage["words"] for stage in composed.cfg["stages"]] == [["data.seed=1"], ["data.split.per_class=5"]]


def test_a_sweep_has_a_chain_for_each_trial(two):
    trials = two.expand("experiment=two", "seed=0,1")
    assert [[stage["seed"] for stage in stages_of(trial)] for trial in trials] == [[0, 0], [1, 1]]
    assert len({ledger_key(trial.cfg, "data") for trial in trials}) == 2


def test_the_ledger_tells_chains_apart_by_their_stages(two):
    key = ledger_key(two.compose("experiment=two").cfg, "data")
    assert ledger_key(two.compose("experiment=two", "output=elsewhere", "data.workers=1").cfg, "data") == key
    two.write(experiment__two=TWO.replace("epochs=3", "epochs=4"))
    assert ledger_key(two.compose("experiment=two").cfg, "data") != key
    # An option that only a stage chooses counts by what its file says.
    two.write(experiment__two=TWO, head__mlp="# Other.\n_target_: tune.models.heads.mlp.MlpHead\nhidden: [7]\n")
    assert ledger_key(two.compose("experiment=two").cfg, "data") != key


def test_trials_without_stages_still_fuse_and_chains_never_do(project):
    words = ["data=synthetic", "backbone.input_size=32"]
    assert fuse_key(project.compose(*words).cfg) is not None
    assert fuse_key(project.compose(*words, 'stages=[["seed=1"],["seed=2"]]').cfg) is None


def test_problems_say_in_which_stage_and_what_all_have_is_said_once(two):
    two.write(experiment__two=TWO.replace("data.seed=1", "data.sead=1").replace("head=mlp", "head=mpl, epochs=0"))
    problems = two.problems("experiment=two", "lr=0", "typo=1")
    told = {problem.key: problem for problem in problems}
    assert told.keys() == {"lr", "typo", "stage 1: data.sead", "stage 2: head", "stage 2: epochs"}
    assert len(problems) == 5
    assert "Did you mean data.seed" in told["stage 1: data.sead"].text
    assert told["stage 1: data.sead"].where.endswith("two.yaml:10")
    assert told["stage 2: head"].where.endswith("two.yaml:11")
    assert told["lr"].where == "command line"


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("experiment=quickstart", "the whole chain's"),
        ("name=x", "the whole chain's"),
        ("output=x", "the whole chain's"),
        ("sweep.jobs=2", "the whole chain's"),
        ("'stages=[]'", "the whole chain's"),
        ("ensemble=seeds", "the whole chain's"),
        ("'lr=1e-3,1e-2'", "a stage is one run"),
        ("backbone.weights=none", "stage 2 starts from stage 1"),
        ("data.split.folds=3", "a stage is one run"),
        ("backbone=pair", "by which a stage starts from another"),
    ],
)
def test_what_a_stage_cannot_set_is_refused(two, word, why):
    two.write(experiment__two=TWO.replace("head=mlp", word))
    problems = two.problems("experiment=two")
    assert any(each.key.startswith("stage 2: ") and why in each.text for each in problems), problems


def test_the_first_stage_may_say_where_the_chain_starts(two):
    two.write(experiment__two=TWO.replace("epochs=3", "backbone.weights=none"))
    assert two.problems("experiment=two") == []


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("stages: 3", "stages", "must be a list"),
        ("stages: [[lr=1]]", "stages", "one stage is an ordinary run"),
        ("stages: [lr=1, lr=2]", "stage 1", "must be a list of words"),
        ("stages: [[lr=1], [{lr: 2}]]", "stage 2", "must be a list of words"),
        ("stages: [[lr=1], ['lr=[']]", "stage 2: lr", "cannot be read"),
    ],
)
def test_stages_that_are_no_lists_of_words_are_refused(project, text, key, why):
    project.write(experiment__odd=f"# @package _global_\n# Odd.\ndefaults:\n  - override /data: synthetic\n{text}\n")
    told = {each.key: each for each in check(project.compose("experiment=odd"), ConfigTree())}
    assert why in told[key].text
    assert told[key].where.endswith("odd.yaml:5")
