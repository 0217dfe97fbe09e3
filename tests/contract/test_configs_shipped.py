from __future__ import annotations

import re

import pytest

from tune.config import files
from tune.config.check import NEEDS, check
from tune.config.compose import ConfigTree, compose, expand
from tune.config.gate import nodes

TREE = ConfigTree()
OPTIONS = [(group, option) for group in TREE.groups() for option in TREE.options(group)]
FILES = sorted(TREE.shipped.rglob("*.yaml"))


def named(path):
    return path.relative_to(TREE.shipped).as_posix()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_fits_into_the_default_run(group, option):
    words = [f"{group}={option}"] if group == "data" else ["data=synthetic", f"{group}={option}"]
    composed = compose(TREE, words)
    assert composed.choices[group] == option
    # An option may leave a value to the user, as backbone=timm does with the name.
    assert [each for each in check(composed, TREE) if not each.text.startswith(NEEDS)] == []


@pytest.mark.parametrize("experiment", TREE.experiments())
def test_every_experiment_composes_and_says_what_it_should_give(experiment):
    composed = compose(TREE, [f"experiment={experiment}"])
    assert [problem for trial in expand(TREE, [f"experiment={experiment}"]) for problem in check(trial, TREE)] == []
    assert set(composed.cfg["expected"]) == {"metric", "value", "within", "minutes"}
    assert composed.cfg["name"] == experiment.replace("/", "-")


@pytest.mark.parametrize("experiment", TREE.experiments())
def test_every_leaf_that_an_experiment_sets_survives(experiment):
    file = files.read(TREE.file("experiment", experiment))
    cfg = compose(TREE, [f"experiment={experiment}"]).cfg

    def assert_holds(composed, written):
        for key, value in written.items():
            if isinstance(value, dict):
                assert_holds(composed[key], value)
            else:
                assert composed[key] == value

    cfg["stages"] = [stage["words"] for stage in cfg["stages"]]  # each has become a whole config
    assert_holds(cfg, {key: value for key, value in file.data.items() if key != "defaults"})


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_file_begins_with_a_sentence(path):
    first = files.read(path).sentence
    assert re.match(r"^[A-Z0-9].*[.)]$|^\S+\.csv .*\.$", first), f"{named(path)}: {first!r} is no sentence"
    assert len(first) <= 125


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_file_is_block_style_where_it_interpolates(path):
    assert not re.search(r"[\[{][^\]}]*\$\{", path.read_text())


@pytest.mark.parametrize("path", FILES, ids=named)
def test_no_file_has_commented_out_keys(path):
    assert not re.search(r"^\s*#\s*[a-z_.]+:\s*\S*$", path.read_text(), re.MULTILINE)


def test_run_yaml_puts_itself_first_so_that_options_and_experiments_beat_it():
    assert files.read(TREE.shipped / "run.yaml").data["defaults"][0] == "_self_"


def test_every_group_has_a_folder_and_every_folder_is_a_group_of_the_run():
    assert TREE.groups() == sorted(TREE.groups_of_run())


def test_what_the_issue_asks_for_is_there():
    wanted = {
        "data": "folder csv arrays elpv digits mnist5k synthetic",
        "backbone": "efficientnet_lite0 efficientnet_lite1 efficientnet_lite2 timm resnet50 inception_v3 convnext_tiny "
        "vit_small mobilenetv3",
        "head": "linear mlp",
        "freeze": "deep mid full gradual lp_ft",
        "augment": "none flip mild strong affine randaugment trivialaugment elastic lighting noise mixup cutmix",
        "regularize": "none l1 l2 elastic dropout weight_decay label_smoothing early_stopping standard",
        "loss": "cross_entropy weighted focal",
        "optimizer": "sgd momentum nesterov adagrad rmsprop adam adamw timm",
        "scheduler": "constant step exponential cosine warmup_cosine one_cycle plateau",
        "trainer": "auto cpu gpu tpu ddp",
        "logger": "csv tensorboard mlflow wandb",
        "experiment": "quickstart elpv/mid elpv/finetune elpv/four_class smoke/deep smoke/mid smoke/full smoke/sweep "
        "sweep/lr_batch",
    }
    lacking = {group: set(names.split()) - set(TREE.options(group)) for group, names in wanted.items()}
    assert not any(lacking.values()), lacking


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_no_option_repeats_a_default_of_its_signature(group, option):
    from tune.config.schema import SHARED
    from tune.config.signature.source import Found, find, signature

    data = files.read(TREE.file(group, option)).data
    for _, node in nodes(data):
        if "_target_" not in node:
            continue
        found = find(node["_target_"])
        assert isinstance(found, Found)
        if not found.name.startswith("tune."):
            continue  # theirs may change with their version
        parameters = dict(signature(found).parameters)
        if group in SHARED:
            shared = find(SHARED[group])
            assert isinstance(shared, Found)
            parameters |= signature(shared).parameters
        for key, value in node.items():
            if key not in ("_target_", "defaults"):
                assert parameters[key].default_value != value or parameters[key].is_required, f"{key}: {value}"
