from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from tune.config import files
from tune.config.compose import ConfigTree, compose
from tune.errors import ConfigError

MINE = """
    # @package _global_
    # Mine.
    defaults:
      - override /data: synthetic
      - override /freeze: mid
      - override /regularize: standard

    lr: 3e-4
    seed: 7
    batch_size: 16
    data:
      rows: 120
      split:
        val: 0.3
    freeze:
      backbone_lr: 0.5
    regularize:
      dropout: 0.4
"""
BOTH = """
    # What merging must get right: nothing over a mapping, a mapping over nothing, lists, `???`, `${…}`, a package.
    defaults:
      - /optimizer@extra.deep: sgd
      - override /data: csv
      - override /regularize: standard
    evaluate: null
    sweep: {params: null, cases: {small: [lr=1e-3]}}
    lr: ???
    expected: {metric: test/accuracy, range: [0.1, 1]}
    output: ${name}/${seed}
    extra: {deep: {lr: "${lr}", _target_: "???", momentum: null}}
"""
LEAVES = {
    "lr": 3e-4,
    "seed": 7,
    "batch_size": 16,
    "data.rows": 120,
    "data.split.val": 0.3,
    "freeze.backbone_lr": 0.5,
    "regularize.dropout": 0.4,
}


def leaf(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("word", ["experiment=mine", "+experiment=mine", "++experiment=mine"])
def test_every_leaf_of_an_experiment_survives_however_it_is_called(project, word):
    project.write(experiment__mine=MINE)
    composed = project.compose(word)
    assert {key: leaf(composed.cfg, key) for key in LEAVES} == LEAVES
    assert composed.choices["freeze"] == "mid"
    assert composed.choices["experiment"] == "mine"
    assert project.problems(word) == []


SHIPPED = [[f"experiment={name}"] for name in ConfigTree().experiments()]


@pytest.mark.parametrize("words", [*SHIPPED, [], ["backbone=pair", "loss=triplet"], ["experiment=both"]], ids=str)
def test_it_is_what_hydra_composes(project, words):
    project.write(experiment__both=BOTH)
    tree = ConfigTree()
    with tree.active():
        whole = hydra_compose("run", overrides=[word.replace("experiment", "+experiment") for word in words])
    found = compose(tree, words)
    name = found.unresolved.pop("name")
    expected = OmegaConf.to_container(whole, resolve=False)
    assert expected.pop("name") in (None, name)
    if found.stages:  # the words of each have become a config
        found.unresolved["stages"] = [stage["words"] for stage in found.unresolved["stages"]]
    assert found.unresolved == expected
    assert list(found.unresolved) == list(expected)


def test_the_command_line_beats_the_experiment_and_the_experiment_its_options(project):
    project.write(experiment__mine=MINE)
    composed = project.compose("lr=1", "experiment=mine", "regularize=dropout", "data.split.val=0.1")
    assert composed.cfg["lr"] == 1
    assert composed.cfg["data"]["split"] == {"val": 0.1}
    assert composed.choices["regularize"] == "dropout"
    assert composed.cfg["regularize"] == {"dropout": 0.4}  # the option says 0.2, the experiment 0.4


def test_an_experiment_without_a_header_means_the_same(project):
    project.write(experiment__mine="lr: 0.5\n")
    assert project.compose("experiment=mine").cfg["lr"] == 0.5


def test_an_experiment_can_build_on_another(project):
    project.write(experiment__mine=MINE)
    project.write(
        experiment__sub__child="defaults:\n  - /experiment/mine\n  - override /freeze: full\n  - _self_\nlr: 0.9\n"
    )
    composed = project.compose("experiment=sub/child")
    assert (composed.cfg["lr"], composed.cfg["seed"], composed.choices["freeze"]) == (0.9, 7, "full")


def test_the_name_is_the_path_of_the_experiment(project):
    project.write(experiment__sub__mine="lr: 1\n")
    assert project.compose().cfg["name"] == "run"
    assert project.compose("experiment=sub/mine").cfg["name"] == "sub-mine"
    assert project.compose("experiment=sub/mine", "name=other").cfg["name"] == "other"


def test_every_key_knows_who_wrote_it(project):
    project.write(experiment__mine=MINE)
    composed = project.compose("experiment=mine", "optimizer.betas=[0.8,0.9]", "data.split.seed=3", "head=mlp")
    mine = "conf/experiment/mine.yaml"
    assert composed.origin("lr") == f"{mine}:8"
    assert composed.origin("data.split.val") == f"{mine}:14"
    assert composed.origin("freeze") == f"{mine}:15"
    assert composed.origin("optimizer.betas.1") == "command line"
    assert composed.origin("data.split.seed") == "command line"
    assert composed.origin("head") == "command line"
    assert composed.origin("regularize.label_smoothing").endswith("conf/regularize/standard.yaml:4")
    lines = ConfigTree().file("", "run").read_text().splitlines()
    number = 1 + next(number for number, line in enumerate(lines) if line.startswith("epochs:"))
    assert composed.origin("epochs").endswith(f"conf/run.yaml:{number}")
    assert composed.origin("nobody.wrote.this") == ""


def test_plus_and_tilde_work_on_values(project):
    composed = project.compose(
        "data=elpv", "+data.types=mono", "++lr=2", "~data.split.stratify", "data.split={val: 0.5}"
    )
    assert composed.problems == []
    assert composed.cfg["data"]["types"] == "mono"
    assert composed.cfg["lr"] == 2
    assert composed.cfg["data"]["split"] == {"test": 0.25, "val": 0.5}


def test_interpolations_are_filled_in_after_the_command_line(project):
    project.write(experiment__mine="name: lr-${lr}\nseed: ${epochs}\n")
    cfg = project.compose("experiment=mine", "epochs=4", "output=out/${seed}").cfg
    assert (cfg["name"], cfg["seed"], cfg["output"]) == ("lr-0.001", 4, "out/4")


def test_an_interpolation_that_leads_nowhere_is_one_problem(project):
    project.write(experiment__mine="lr: ${lrr}\n")
    (problem,) = project.problems("experiment=mine", "data=synthetic")
    assert (problem.key, problem.where) == ("lr", "conf/experiment/mine.yaml:1")
    assert "lrr" in problem.text


def test_a_list_of_values_needs_m(project):
    told = project.told("data=synthetic", "lr=1e-3,1e-4")
    assert "use -m" in told["lr"]
    assert "use -m" in project.told("data=synthetic,digits")["data"]


@pytest.mark.parametrize(
    "word", ["hydra.run.dir=x", "+hydra.callbacks.a=1", "hydra/launcher=joblib", "hydra.searchpath=[pkg://os]"]
)
def test_the_command_line_cannot_speak_to_hydra(project, word):
    (problem,) = project.compose("data=synthetic", word).problems
    assert "nothing below `hydra` acts here" in problem.text


@pytest.mark.parametrize("word", ["lr=a(b", "=3", "lr=[1", "a b=1"])
def test_a_word_that_is_no_override_is_a_problem_and_no_traceback(project, word):
    assert "cannot be read" in project.compose("data=synthetic", word).problems[0].text


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mine", "is an experiment: write +experiment=mine"),
        ("mien", "Did you mean +experiment=mine?"),
        ("photos", "is a folder: write data.root=photos"),
        ("freeze", "is a group: write freeze=OPTION"),
        ("lr", "has no =. An override is KEY=VALUE, GROUP=OPTION or +experiment=NAME"),
    ],
)
@pytest.mark.parametrize("how", ["compose", "expand"])
def test_a_word_without_a_value_is_all_that_is_complained_of(project, word, said, how):
    project.write(experiment__mine="# Mine.\nlr: 1\n")
    (project.folder / "photos").mkdir()
    with pytest.raises(ConfigError) as caught:
        getattr(project, how)("lr=[1", word)
    (problem,) = caught.value.problems
    assert (problem.key, problem.where) == (word, "command line")
    assert said in problem.text


def test_the_users_folder_is_searched_first_and_says_what_it_shadows(project):
    project.write(optimizer__adamw="# Mine.\n_target_: tune.train.optim.adamw\neps: 0.1\n", run2="x: 1")
    project.write(optimizer__own="# Own.\n_target_: tune.train.optim.sgd\n")
    composed = project.compose()
    assert composed.cfg["optimizer"]["eps"] == 0.1
    assert composed.shadowed == ["optimizer/adamw"]
    assert project.compose("optimizer=own").shadowed == []
    assert "own" in ConfigTree().options("optimizer")
    assert ConfigTree().sentence("optimizer", "adamw") == "Mine."


def test_a_copy_of_a_shipped_file_is_not_worth_a_note(project):
    shipped = ConfigTree().file("optimizer", "adamw").read_text()
    project.write(optimizer__adamw=shipped)
    assert project.compose().shadowed == []
    project.write(optimizer__adamw=shipped + "# changed\n")
    assert project.compose().shadowed == ["optimizer/adamw"]


def test_another_folder_can_be_named(project):
    project.write(experiment__a="lr: 1\n")
    project.file("elsewhere/experiment/b.yaml", "lr: 2\n")
    tree = ConfigTree("elsewhere")
    assert "b" in tree.experiments()
    assert "a" not in tree.experiments()
    with pytest.raises(ConfigError, match="there is no folder"):
        ConfigTree("nowhere")


def test_a_broken_file_that_nobody_uses_does_no_harm(project):
    project.write(experiment__broken="a: [", experiment__good="lr: 1\n")
    assert project.compose("experiment=good").cfg["lr"] == 1
    with pytest.raises(ConfigError, match="is no valid YAML"):
        project.compose("experiment=broken")


def test_an_option_that_a_file_misspells_is_found_with_its_line_and_the_rest_is_checked(project):
    project.write(
        experiment__mine="# Mine.\ndefaults:\n  - override /backbone: resnet5\n  - override /data: synthetic\nlrr: 1\n"
    )
    backbone, lrr = project.problems("experiment=mine")
    assert (backbone.key, backbone.where) == ("backbone", "conf/experiment/mine.yaml:3")
    assert "resnet50" in backbone.text
    assert lrr.key == "lrr"


def test_a_group_that_a_file_misspells_is_found_with_its_line(project):
    project.write(experiment__mine="defaults:\n  - override /optimiser: sgd\n")
    with pytest.raises(ConfigError) as caught:
        project.compose("experiment=mine")
    (problem,) = caught.value.problems
    assert (problem.key, problem.where) == ("optimiser", "conf/experiment/mine.yaml:2")
    assert "Did you mean optimizer?" in problem.text


def test_a_leaf_assigned_onto_a_nested_group_chooses_from_it(project):
    project.file("small/run.yaml", "defaults:\n  - _self_\n  - data/target: a\nlr: 1\n")
    for name in "ab":
        project.file(f"small/data/target/{name}.yaml", f"# It.\nname: {name}\n")
    tree = ConfigTree(shipped=project.folder / "small")
    assert compose(tree, ["data.target=b"]).cfg["data"] == {"target": {"name": "b"}}
    assert compose(tree, ["data.target.name=c"]).cfg["data"] == {"target": {"name": "c"}}


def test_composing_leaves_hydra_as_it_was(project):
    project.compose()
    assert not GlobalHydra.instance().is_initialized()
    assert files.FOLDERS.get() == ()


def test_a_path_that_leaves_the_folder_is_no_option(project):
    project.file("secret.yaml", "lr: 5\n")
    project.write(experiment__mine="lr: 1\n")
    assert "no option is called" in project.told("experiment=../../secret")["experiment"]
    project.write(experiment__up="defaults:\n  - ../../secret\n")
    with pytest.raises(ConfigError):
        project.compose("experiment=up")


def test_an_option_inside_an_option_is_replaced_and_not_merged(project):
    composed = project.compose("data=synthetic", "backbone=pair", "backbone@backbone.first=resnet50")
    assert composed.cfg["backbone"]["first"]["name"] == "resnet50"
    assert "weights" not in composed.cfg["backbone"]["first"]  # lite0 says: package
    assert composed.cfg["backbone"]["second"]["name"] == "tf_efficientnet_lite2"
    assert composed.problems == []


def test_a_list_where_others_have_a_mapping_is_found_with_its_line(project):
    project.write(experiment__mine="# Mine.\nlr: 1e-3\nevaluate: [1]\n")
    with pytest.raises(ConfigError) as error:
        project.compose("experiment=mine")
    (problem,) = error.value.problems
    assert (problem.key, problem.where) == ("evaluate", "conf/experiment/mine.yaml:3")
    assert "has a list where other files have a mapping" in problem.text
