"""`tune explain` against a second reading of the same files: PyYAML's nodes, laid over each other in their order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import tune
from tune.cli.main import main
from tune.config.compose import ConfigTree

CONF = ConfigTree().shipped


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(capsys, *words):
    assert main(["explain", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, *words):
    assert main(["explain", *words]) == 2
    return capsys.readouterr().err


def leaves(node, keys=()):
    """(dotted key, value, line) of every scalar, list and empty mapping."""
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from leaves(value, (*keys, key.value))
        else:
            yield ".".join((*keys, key.value)), value, key.start_mark.line + 1


def layers(experiment):
    """Package and file, weakest first, as the defaults lists ask for."""
    own = CONF / "experiment" / f"{experiment}.yaml"
    chosen = {}
    for file in (CONF / "run.yaml", own):
        for entry in yaml.safe_load(file.read_text())["defaults"]:
            if isinstance(entry, dict):
                ((group, option),) = entry.items()
                chosen[group.removeprefix("override /")] = option
    options = [((group,), CONF / group / f"{option}.yaml") for group, option in chosen.items()]
    return chosen, [((), CONF / "run.yaml"), *options, ((), own)]


def second_reading(experiment):
    """dotted key → [(value, FILE:LINE)], strongest first."""
    found = {}
    for package, file in layers(experiment)[1]:
        node = yaml.compose(file.read_text())
        if node is None:
            continue
        for key, value, line in leaves(node, package):
            if not key.startswith("defaults"):
                plain = yaml.safe_load(yaml.serialize(value))
                found.setdefault(key, []).insert(0, (plain, f"{file}:{line}"))
    return found


@pytest.mark.parametrize("experiment", ["elpv/finetune", "quickstart"])
def test_value_file_and_line_of_every_key_and_what_it_overrides(capsys, experiment):
    read = second_reading(experiment)
    expected = {key: found for key, found in read.items() if not any(each.startswith(f"{key}.") for each in read)}
    assert len(expected) >= 20
    for key, (top, *below) in expected.items():
        answer = told(capsys, key, f"+experiment={experiment}")
        value = experiment.replace("/", "-") if key == "name" else top[0]
        assert (answer["value"], answer["where"]) == (value, top[1]), key
        assert [(each["value"], each["where"]) for each in answer["over"]] == below, key


@pytest.mark.parametrize("experiment", ["elpv/finetune"])
def test_the_option_of_every_group_and_the_line_that_chose_it(capsys, experiment):
    for group, option in layers(experiment)[0].items():
        answer = told(capsys, group, f"+experiment={experiment}")
        file, _, line = answer["where"].rpartition(":")
        assert answer["value"] == option
        assert re.search(rf"\b{group}: {option}\b", Path(file).read_text().splitlines()[int(line) - 1])
        assert answer["about"] == ConfigTree().sentence(group, option)


def test_the_command_line_stands_on_top(capsys):
    answer = told(capsys, "lr", "+experiment=elpv/finetune", "lr=3e-4")
    assert (answer["value"], answer["where"]) == (3e-4, "command line")
    assert [each["value"] for each in answer["over"]] == [1e-3, 1e-3]
    answer = told(capsys, "freeze", "+experiment=elpv/finetune", "freeze=mid")
    assert [each["value"] for each in answer["over"]] == ["full", "deep"]
    answer = told(capsys, "data.split.val", "data.split={val: 0.1}")
    assert (answer["value"], answer["where"]) == (0.1, "command line")


def test_a_file_of_ones_own_is_named_as_one_would_type_it(capsys, tmp_path):
    mine = tmp_path / "conf" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# Mine.\nlr: 0.5     # as Ada said\nregularize:\n  dropout: 0.1\n")
    answer = told(capsys, "lr", "+experiment=mine")
    assert (answer["where"], answer["why"]) == ("conf/experiment/mine.yaml:2", "as Ada said")
    assert told(capsys, "regularize.dropout", "experiment=mine")["where"] == "conf/experiment/mine.yaml:4"


READERS = [
    ("optimizer.betas", "tune.train.optim.adamw", "a list, each a number in [0, 1)", ""),
    ("data.split.seed", "tune.data.splits.Split", "a whole number in [0, 4294967295]", "of the split alone"),
    ("freeze.rules.head", "tune.models.freeze.FreezePlan", "a mapping of keys to values", ""),
    ("regularize.min_delta", "tune.train.regularize.Regularize", "a number in [0, inf)", "by how much"),
    ("evaluate.eps", "tune.config.schema.Evaluate", "a list, each a number in (0, 255]", "largest changes"),
    ("batch_size", "tune.config.schema.Run", "a whole number in [1, inf)", "rows per optimizer step"),
    ("transfer.teacher.name", "tune.models.backbones.timm_model.TimmBackbone", "text", "timm's name"),
    ("data.tasks.type.kind", "tune.data.tasks.task.TaskOptions", "one of classification", "one of several"),
]
WHERE = {
    "transfer.teacher.name": ["+experiment=elpv/distill"],
    "data.tasks.type.kind": ["+experiment=elpv/multi_task"],
}


@pytest.mark.parametrize(("key", "owner", "takes", "about"), READERS)
def test_who_reads_a_key_and_what_it_takes(capsys, key, owner, takes, about):
    answer = told(capsys, key, *WHERE.get(key, []))
    assert answer["reader"]["owner"] == owner
    assert answer["reader"]["takes"].startswith(takes)
    assert answer["about"].startswith(about)
    file, _, line = answer["reader"]["where"].rpartition(":")
    assert file.startswith(str(Path(tune.__file__).parent))
    assert answer["reader"]["name"] in Path(file).read_text().splitlines()[int(line) - 1]


def test_a_key_that_nobody_set_has_the_default_of_its_signature(capsys):
    answer = told(capsys, "optimizer.eps")
    assert (answer["value"], answer["is_default"]) == (1e-8, True)
    assert "train/optim.py:" in answer["where"]
    assert told(capsys, "evaluate.eps")["value"] == [2.0, 4.0, 8.0]


def test_what_a_sweep_and_a_chain_put_in_its_place_is_told(capsys):
    (answer,) = told(capsys, "lr", "+experiment=smoke/sweep")["varied"]
    assert answer["value"] == "1e-3,1e-2"
    assert [each["value"] for each in told(capsys, "epochs", "+experiment=elpv/chain")["varied"]] == ["4", "10"]


def test_a_group_lists_its_keys_with_who_set_them(capsys):
    assert main(["explain", "regularize", "+experiment=elpv/finetune"]) == 0
    shown = capsys.readouterr().out
    assert "regularize = none" in shown
    assert re.search(r"regularize\.weight_decay +0\.01 +\S*finetune\.yaml:\d+", shown)
    assert re.search(r"regularize\.sam +0\.0 +the default of its signature", shown)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("batch_sze", "Did you mean batch_size"),
        ("optimizer.lr", "set lr"),
        ("optimizer.beta", "Did you mean optimizer.betas"),
        ("experiment", "+experiment=NAME"),
        ("nobody.knows", "unknown"),
    ],
)
def test_a_key_that_is_not_there_is_refused_with_the_nearest(capsys, key, said):
    assert said in refused(capsys, key)


def test_what_cannot_be_composed_is_refused(capsys):
    assert "Did you mean quickstart?" in refused(capsys, "lr", "+experiment=quikstart")
