from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from tune.cli.configs.look import cat, ls, validate
from tune.config.compose import ConfigTree
from tune.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def mine(tmp_path, text, name="conf/experiment/mine.yaml"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems_of(verb, *words):
    with pytest.raises(ConfigError) as caught:
        verb(list(words))
    return caught.value.problems


def test_ls_lists_every_group_with_options_and_sentences(capsys):
    assert ls([]) == 0
    shown = capsys.readouterr().out
    tree = ConfigTree()
    for group in [*tree.groups(), "experiment"]:
        assert f"\n{group}\n" in f"\n{shown}"
        for option in tree.options(group):
            assert tree.sentence(group, option) in shown


def test_ls_of_one_group_marks_the_default(capsys):
    assert ls(["freeze"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ConfigTree().options("freeze")
    assert [line.split()[0] for line in lines if line.split()[1] == "*"] == ["deep"]


def test_ls_as_json_is_groups_of_options_of_sentences(capsys):
    assert ls(["experiment", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["experiment"]) == set(ConfigTree().experiments())


def test_ls_filters_by_name_and_sentence_in_one_group_or_all(capsys):
    assert ls(["experiments", "ELPV", "--json"]) == 0
    names = json.loads(capsys.readouterr().out)["experiment"]
    assert set(names) >= {"elpv/mid", "elpv/finetune"}
    assert not any("elpv" not in f"{name} {what}".lower() for name, what in names.items())
    assert ls(["smoothing", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["regularize"]) == {"label_smoothing", "standard"}  # the second says it in its sentence
    assert ls(["freeze", "mid"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["mid"]
    assert "no option of freeze" in problems_of(ls, "freeze", "nothing like it")[0].text


def test_ls_backbones_lists_options_and_models_of_timm_by_a_filter(capsys):
    from tune.config.names import timm_models

    assert ls(["backbones", "resnet5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["backbone"]) == ["resnet50"]
    assert told["timm"] == sorted(name for name in timm_models() if "resnet5" in name)
    assert ls(["backbones", "resnet5"]) == 0
    assert {"resnet50d", "wide_resnet50_2"} <= set(capsys.readouterr().out.split())
    assert "in its name" in problems_of(ls, "backbones", "nothing like it")[0].text


def test_ls_of_no_group_names_the_nearest():
    assert "Did you mean optimizer?" in problems_of(ls, "optimiser")[0].text


def test_cat_prints_yaml_that_is_the_composed_config(capsys):
    assert cat(["+experiment=quickstart", "lr=0.5"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["lr"] == 0.5
    assert shown["data"]["split"] == {"test": 0.25, "stratify": ["p", "type"]}
    assert cat(["+experiment=quickstart", "lr=0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown


@pytest.mark.parametrize("words", [["freeze", "mid"], ["freeze/mid"], ["freeze", "mid.yaml"]])
def test_cat_prints_the_file_of_an_option(capsys, words):
    assert cat(words) == 0
    assert capsys.readouterr().out == ConfigTree().file("freeze", "mid").read_text()


def test_cat_refuses_what_cannot_be_composed():
    assert "Did you mean quickstart?" in problems_of(cat, "experiment=quikstart")[0].text
    assert "there is no midd" in problems_of(cat, "freeze", "midd")[0].text
    assert "tune cat freeze OPTION" in problems_of(cat, "freeze")[0].text
    assert "overrides go with an experiment" in problems_of(cat, "freeze", "mid", "lr=1")[0].text


def test_cat_takes_the_bare_name_of_an_experiment(capsys):
    assert cat(["elpv/mid", "lr=0.5"]) == cat(["+experiment=elpv/mid", "lr=0.5"]) == 0
    shown = capsys.readouterr().out
    assert shown[: len(shown) // 2] == shown[len(shown) // 2 :]
    assert yaml.safe_load(shown[: len(shown) // 2])["freeze"]["backbone_lr"] == 0.1


def test_validate_all_checks_everything_that_is_shipped(capsys):
    assert validate(["all", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    tree = ConfigTree()
    assert told["status"] == "ok"
    assert len(told["checked"]) == sum(len(tree.options(group)) for group in [*tree.groups(), "experiment"])


def test_validate_of_an_experiment_or_its_file_finds_the_same(tmp_path, capsys):
    path = mine(tmp_path, "# Mine.\ndefaults:\n  - override /data: synthetic\nlrr: 3\n")
    by_name, by_file = problems_of(validate, "mine"), problems_of(validate, str(path))
    assert by_name == by_file
    assert (by_name[0].key, by_name[0].where) == ("lrr", "conf/experiment/mine.yaml:4")
    path.write_text("# Mine.\ndefaults:\n  - override /data: synthetic\nlr: 3\n")
    assert validate(["mine", "epochs=3"]) == 0
    assert capsys.readouterr().out == "ok  experiment=mine\n"


def test_validate_tells_the_problems_of_every_trial_and_every_file(tmp_path):
    mine(tmp_path, "# A.\ndefaults: [override /data: synthetic]\nsweep:\n  params:\n    lr: 1,-1\n")
    mine(tmp_path, "a: [\n", "conf/experiment/broken.yaml")
    problems = problems_of(validate, "mine", "broken", "quickstart")
    assert {problem.key for problem in problems} == {"lr", "conf/experiment/broken.yaml"}
    assert any("[experiment=mine]" in problem.text for problem in problems)


def test_validate_of_an_option_file_asks_for_allow(tmp_path):
    mine(tmp_path, "class Mine:\n    def __init__(self, x: int = 1): ...\n", "my_losses.py")
    path = mine(tmp_path, "# Mine.\n_target_: my_losses.Mine\n", "conf/loss/mine.yaml")
    assert "--allow my_losses" in problems_of(validate, str(path))[0].text
    assert validate([str(path), "--allow", "my_losses"]) == 0


def test_validate_says_what_is_not_there(tmp_path):
    assert "there is no such file" in problems_of(validate, "nowhere/mine.yaml")[0].text
    assert "lies in no config folder" in problems_of(validate, str(mine(tmp_path, "lr: 1\n", "loose.yaml")))[0].text


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "backbones", "resnet5"],
        ["cat", "quickstart"],
        ["validate", "quickstart"],
        ["explain", "lr", "+experiment=quickstart"],
        ["cp", "quickstart", "mine", "--full"],
        ["init", "mine"],
        ["completion", "--for", "tune run backbone=res"],
    ],
)
def test_looking_at_configs_never_imports_torch(words):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tune", *words], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if "import time:" in line}
    assert not imported & {"torch", "timm", "pytorch_lightning", "torchvision", "sklearn", "matplotlib", "rich"}
