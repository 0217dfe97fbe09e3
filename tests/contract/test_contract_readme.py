"""Every command of the README works: it runs here, at a size that takes seconds, or .ci/run does the same.

A command is a line of a fenced bash block, cut at its `&&`. What starts with `tune` runs here; real data are replaced
by drawn shapes, image size and epochs are cut down. Everything else must stand in .ci/run.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune.cli.main import main
from tune.config.check import check
from tune.config.compose import ConfigTree, compose, expand

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()
TREE = ConfigTree()
SMALL = ["backbone.input_size=32", "epochs=1"]
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
NAMED = dict(re.findall(r"`([\w/]+\.(?:yaml|py))`:\n\n```\w+\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
"""Files that the README writes out: path → content."""


def commands_of(text):
    """Commands of a shell text, each as a list of words."""
    parts = [shlex.split(part, comments=True) for line in text.splitlines() for part in line.split(" && ")]
    return [words for words in parts if words]


COMMANDS = [words for language, text in FENCES if language in ("bash", "console") for words in commands_of(text)]
RUN_HERE = [words[1:] for words in COMMANDS if Path(words[0]).name == "tune"]
RUN_BY_CI = [words for words in COMMANDS if Path(words[0]).name != "tune"]
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", PROSE)]
CONFIG_WORDS = sorted(
    {span for span in SPANS if all(re.match(r"\+?[a-z_.]+[a-z0-9_./]*=[^=]+$", w) for w in span.split())}
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photographs, labels, arrays and the files that the README writes out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (40, 24, 24, 3), dtype=np.uint8), ["cat", "dog"] * 20
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number // 2 + 1}.png")
    with (tmp_path / "labels.csv").open("w") as file:
        rows = [[path.relative_to(tmp_path), path.parent.name] for path in sorted(tmp_path.glob("photos/*/*"))]
        csv.writer(file).writerows([["path", "label"], *rows])
    np.savez(tmp_path / "images.npz", images=images, labels=np.array(labels))
    for name, text in NAMED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in NAMED:
        sys.modules.pop(name.removesuffix(".py"), None)


def cut_down(words):
    """The same `tune run`, in seconds: smaller, on drawn shapes where its data are a package's, a sweep dry."""
    tree = ConfigTree()
    overrides = [word for word in words if "=" in word]
    first = expand(tree, overrides)[0] if "-m" in words else compose(tree, overrides)
    if first.choices.get("experiment", "").startswith("smoke/"):
        return words  # takes seconds as it is
    more = ["data=synthetic", "data.rows=60", "data.classes=2"] if first.choices["data"] == "elpv" else []
    dry = ["--dry-run"] if "-m" in words or first.is_sweep else []
    size = "backbone.first.input_size=32" if first.choices["backbone"] == "pair" else SMALL[0]
    if first.choices["data"] in ("digits", "mnist5k") and not dry:
        more += ["data.split.per_class=20"]
    if first.choices["data"] == "domains":
        more += ["guard=false", "epoch_steps=2"]  # what stands beside a run has tests of its own
    return [*words, *more, size, *([] if dry or "head=sklearn" in words else SMALL[1:]), *dry]


@pytest.mark.parametrize("words", RUN_HERE, ids=" ".join)
@pytest.mark.filterwarnings("default")  # a user sees warnings of other packages in run.log, and the run goes on
def test_a_command_of_tune_works(here, capsys, words):
    if "latest" in words:
        assert main(["run", "data.root=photos", *SMALL]) == 0
    trains = words[0] in ("run", "doctor", "lr-find", "batch-find") or words[:2] == ["cache", "build"]
    words = cut_down(words) if trains else words
    assert main(words) == 0, capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_the_python_that_uses_a_run_works(here):
    assert main(["run", "data.root=photos", *SMALL]) == 0
    block = next(text for language, text in FENCES if language == "python" and "tune.load" in text)
    names: dict = {}
    exec(block, names)
    assert names["probs"].shape == (1, 2)
    assert names["run"].classes == ["cat", "dog"]


@pytest.mark.filterwarnings("default")
def test_the_files_of_a_run_are_those_of_the_table(here, capsys):
    assert main(["run", "data.root=photos", *SMALL, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = README.partition("| file of `outputs/NAME/TIME-ID/` | content |")[2].partition("\n\n")[0].splitlines()[2:]
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    run_dir = Path(answer["run_dir"])
    found = {path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file()}
    assert told == {"pictures/" if name.startswith("pictures/") else name for name in found}
    assert set(answer) == {"run_dir", "status", "cause", "seconds", "metrics"}


def extras(name):
    """An extra of the project with all extras that it brings."""
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    inner = [each for line in optional[name] for own in re.findall(r"^tune\[(.*)\]", line) for each in own.split(",")]
    return {name}.union(*(extras(each) for each in inner))


def installed(text):
    """Extras of the project that a text installs."""
    return {
        each
        for names in re.findall(r"install [^\n]*\.\[(.*?)\]", text)
        for name in names.split(",")
        for each in extras(name)
    }


@pytest.mark.parametrize("words", RUN_BY_CI, ids=" ".join)
def test_any_other_command_is_what_ci_runs(words):
    program, *rest = Path(words[0]).name, *words[1:]
    in_ci = [each for each in commands_of(CI) if Path(each[0]).name == program]
    if program == "pip":
        assert installed(" ".join(words))
        assert installed(" ".join(words)) <= installed(CI)
    elif program == "python3":
        assert any(each[1:-1] == rest[:-1] for each in in_ci), words  # the last word is the folder
    else:
        assert any(each[1 : len(words)] == rest for each in in_ci), words  # ours may say more, as --durations


def test_both_set_up_commands_are_there():
    joined = [line for language, text in FENCES if language == "bash" for line in text.splitlines() if "venv" in line]
    assert len(joined) == 2
    assert joined[0].endswith("tune run +experiment=quickstart")
    assert joined[1].endswith("pytest")


@pytest.mark.parametrize("span", CONFIG_WORDS)
def test_config_words_compose_and_check(here, span):
    tree, words = ConfigTree(), span.split()
    if not any(word.lstrip("+").startswith(("data", "experiment")) for word in words):
        words = ["data=synthetic", *words]
    if any(word.startswith("data.path_column") for word in words):
        words = ["data=csv", *words]
    for each in expand(tree, words):
        assert check(each, tree) == []


def test_config_words_are_found():
    assert {"freeze=deep", "data.split.blocks=60", "augment=mild augment.mixup=0.2"} <= set(CONFIG_WORDS)


@pytest.mark.parametrize("group", [*TREE.groups(), "experiment"])
def test_the_table_has_every_option_of_a_group_and_its_default_first(group):
    row = next(line for line in README.splitlines() if line.startswith(f"| `{group}` |"))
    told = [word for word in re.findall(r"`([^`]+)`", row.split("|")[2]) if "." not in word]
    assert sorted(told) == TREE.options(group)
    assert told[0] == TREE.defaults().get(group, told[0])


def test_the_readme_is_compact():
    assert len(README.splitlines()) <= 660
