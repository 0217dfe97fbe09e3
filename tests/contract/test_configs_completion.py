"""Shell completion: what may stand next on a line, and that shells take it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from tune.cli.configs.candidates import flags
from tune.cli.configs.completion import SHELLS, split
from tune.cli.main import VERBS, main
from tune.config.compose import ConfigTree

TREE = ConfigTree()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run_ids(tmp_path):
    """Two runs, as far as names go."""
    for name in ("mine/2026-01-01T00-00-00-abc123", "mine/2026-01-01T00-00-00-ab9999"):
        (tmp_path / "outputs" / name).mkdir(parents=True)
        (tmp_path / "outputs" / name / "run.json").write_text(json.dumps({}))
    return ["ab9999", "abc123"]


def after(capsys, line):
    assert main(["completion", "--for", line]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tune va", ["validate"]),
        ("tune ", sorted(VERBS)),
        ("tune run freeze=m", ["freeze=mid"]),
        ("tune run -m augment=mild,el", ["augment=mild,elastic"]),
        ("tune run +experiment=smoke/", [f"+experiment={name}" for name in TREE.experiments() if "smoke" in name]),
        ("freeze=mid tune run bac", ["backbone.", "backbone="]),
        ("tune freeze=m", ["freeze=mid"]),
        ("tune run regularize.d", ["regularize.dropout="]),
        ("tune run optimizer=sgd optimizer.", ["optimizer.momentum=", "optimizer.nesterov="]),
        ("tune run backbone.name=resnet15", [f"backbone.name=resnet152{x}" for x in ("", "c", "d", "s")]),
        ("tune run data@data.target=dig", ["data@data.target=digits"]),
        ("tune validate sm", [name for name in TREE.experiments() if name.startswith("sm")]),
        ("tune cat freeze m", ["mid"]),
        ("tune explain batch", ["batch_size"]),
        ("tune cache ", ["build", "ls", "rm", "verify"]),
        ("tune cp quicks", ["quickstart"]),
        ("tune ls ba", ["backbone", "backbones"]),
        ("tune completion z", ["zsh"]),
        ("tune validate --de", ["--deep"]),
    ],
)  # fmt: skip
def test_what_may_stand_next(capsys, line, found):
    assert after(capsys, line) == found


def test_runs_are_completed_where_a_verb_takes_them(capsys, run_ids, tmp_path):
    assert after(capsys, "tune resume a") == run_ids
    assert after(capsys, "tune resume ") == [*run_ids, "latest"]
    assert after(capsys, "tune run backbone.weights=run:ab") == [f"backbone.weights=run:{name}" for name in run_ids]
    (tmp_path / "outputs").rename(tmp_path / "other")
    assert after(capsys, "tune next a") == []
    assert after(capsys, "tune next --output other a") == run_ids


def test_options_and_experiments_of_ones_own_are_completed(capsys, tmp_path):
    for name in ("conf/experiment/mine.yaml", "conf/freeze/mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# Mine.\n")
    assert after(capsys, "tune cat mi") == ["mine"]
    assert after(capsys, "tune run freeze=mi") == ["freeze=mid", "freeze=mine"]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_flags_of_a_verb_are_those_that_its_help_names(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    usage = capsys.readouterr().out.partition("\n\n")[0]
    named = set(re.findall(r"--[\w-]+", usage))
    named |= {"--multirun"} if verb == "run" else set()  # usage shows -m
    assert set(flags(verb)) == named


def test_a_line_is_cut_at_the_cursor():
    assert split("tune run lr=1 fre") == (["run", "lr=1"], "fre")
    assert split("tune run ") == (["run"], "")
    assert split("tune") == ([], "tune")
    assert split("tune run 'a b' x=") == (["run", "a b"], "x=")


BASH = """
source <({tune} completion bash)
tune() {{ {tune} "$@"; }}
complete -p tune
for breaks in $' \\t\\n=:' $' \\t\\n'; do
    COMP_WORDBREAKS="$breaks"
    for line in "tune va" "tune run backbone=effi" "tune run freeze=m" "tune resume abc" "tune run fre"; do
        COMP_LINE="$line" COMP_POINT=${{#line}} COMP_WORDS=(tune) COMPREPLY=()
        _tune
        printf '%s|' "${{COMPREPLY[@]}}"; echo
    done
done
"""


def test_bash_takes_the_script_and_gets_what_stands_behind_its_word_breaks(run_ids):
    script = BASH.format(tune=f"{sys.executable} -m tune")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].endswith("-F _tune tune")
    lite = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert lines[1:6] == ["validate |", "".join(f"{name}|" for name in lite), "mid |", "abc123 |", "freeze.|freeze=|"]
    whole = "".join(f"backbone={name}|" for name in lite)
    assert lines[6:] == ["validate |", whole, "freeze=mid |", "abc123 |", "freeze.|freeze=|"]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_a_shell_that_is_there_can_read_its_script(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(SHELLS[shell])
    subprocess.run([shell, "-n", "script"], check=True)


def test_without_a_shell_the_verb_asks_which(capsys):
    assert main(["completion"]) == 2
    assert "bash, zsh or fish" in capsys.readouterr().err
