from __future__ import annotations

import time

import pytest

from tune.config import files
from tune.errors import ConfigError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{here}: &{here} [{', '.join([f'*{above}'] * 9)}]" for above, here in zip("abcdefgh", "bcdefghi", strict=True)
)


def problems_of(path):
    with pytest.raises(ConfigError) as caught:
        files.read(path)
    return caught.value.problems


def test_every_key_has_its_line(project):
    path = project.file("a.yaml", "# A sentence.\nlr: 1\nsplit:\n  val: 0.2\n  stratify:\n    - p\n    - type\n")
    read = files.read(path)
    assert read.where("lr") == "a.yaml:2"
    assert read.where("split", "val") == "a.yaml:4"
    assert read.where("split", "stratify", "1") == "a.yaml:7"
    assert read.where("split", "missing") == "a.yaml:3"


def test_the_sentence_is_the_first_comment_that_is_no_header(project):
    path = project.file("a.yaml", "# @package _global_\n# What it is.\n# More.\nlr: 1\n")
    assert files.read(path).sentence == "What it is."
    assert files.read(path).package == "_global_"
    assert files.sentence(path) == "What it is."


def test_numbers_with_an_exponent_and_dates_are_read_as_people_mean_them(project):
    path = project.file("a.yaml", "lr: 1e-3\nday: 2026-11-21\n")
    assert files.read(path).data == {"lr": 0.001, "day": "2026-11-21"}


def test_a_changed_file_is_read_again(project):
    path = project.file("a.yaml", "lr: 1\n")
    assert files.read(path).data == {"lr": 1}
    path.write_text("lr: 12\n")
    assert files.read(path).data == {"lr": 12}


def test_a_bomb_of_aliases_is_refused_at_once(project):
    path = project.file("a.yaml", BOMB)
    start = time.perf_counter()
    (problem,) = problems_of(path)
    assert time.perf_counter() - start < 0.2
    assert "more than" in problem.text
    assert problem.where.startswith("a.yaml:")


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("a: [1, 2\nb: 3\n", "is no valid YAML", 2),
        ("a: 1\n\tb: 2\n", "is no valid YAML", 2),
        ("a: 1\nb: 2\na: 3\n", "stands twice, first in line 1", 3),
        ("- a\n- b\n", "no `key: value` lines", 1),
        ("a: !!python/object/apply:os.system [ls]\n", "tags are not used", 1),
        ("a: &a [*a]\n", "stands inside what it names", 1),
        ("a: *b\n", "is no valid YAML", 1),
        ("a: " + "[" * 60 + "]" * 60, "more than 40 levels", 1),
        ("# A sentence.\n# @package _global_\nlr: 1\n", "must stand above every other comment", 2),
    ],
)
def test_what_is_no_config_is_refused_with_its_line(project, text, said, line):
    (problem,) = problems_of(project.file("a.yaml", text))
    assert said in problem.text
    assert problem.where == f"a.yaml:{line}"


def test_bytes_that_are_no_text_are_refused(project):
    path = project.folder / "a.yaml"
    path.write_bytes(b"a: \xff\xfe\n")
    assert "is no valid YAML" in problems_of(path)[0].text


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("# @package _global_\nlr: 1\nhydra:\n  callbacks: {}\n", "hydra.callbacks", 3),
        ("hydra.run.dir: x\n", "hydra.run.dir", 1),
        ("# @package hydra.job\nname: x\n", "@package hydra.job", 1),
        ("defaults:\n  - override /hydra/launcher: joblib\n", "/hydra/launcher", 2),
        ("defaults:\n  - /data@hydra.job: digits\n", "/data", 2),
        ("x: &x {hydra: {run: 1}}\n<<: *x\n", "hydra.run", 1),
    ],
)
def test_a_file_that_speaks_to_hydra_is_refused(project, text, key, line):
    (problem,) = problems_of(project.file("a.yaml", text))
    assert problem.key == key
    assert "nothing below `hydra` acts here" in problem.text
    assert problem.where == f"a.yaml:{line}"
