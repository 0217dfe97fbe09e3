"""What the command line says of errors that nobody foresaw, and where a verb may stand."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from tune.cli.main import guarded, main


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("operator torchvision::nms does not exist", f"torchvision {version('torchvision')} was not built for torch"),
        ("operator torchvision::nms does not exist", "pip install --force-reinstall torch torchvision"),
        ("index 3 is out of bounds", "this is a mistake in tune"),
    ],
)
def test_packages_that_do_not_go_together_are_no_mistake_of_ours(capsys, message, said):
    def call(words):
        raise RuntimeError(message)

    assert guarded(call, []) == 1
    told = capsys.readouterr().err
    assert f"error: RuntimeError: {message}" in told
    assert said in told
    assert ("mistake in tune" in told) == ("torchvision" not in message)


@pytest.mark.parametrize("flags", [["--json"], ["--quiet", "--json"], []])
def test_a_verb_may_stand_behind_flags_that_every_verb_knows(capsys, flags):
    assert main(["--json", *flags, "ls", "freeze"]) == 0
    told = capsys.readouterr().out
    assert main(["ls", "freeze", "--json"]) == 0
    assert capsys.readouterr().out == told
    assert main(["--json", *flags, "losses"]) == 2
    assert "losses is no verb" in capsys.readouterr().err
    assert main(["--json", *flags, "lr=1e-3", "epoch=3"]) == 2
    assert "Did you mean epochs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ("predict", "RUN, PATH", "is missing: tune predict RUN PATH …"),
        ("predict latest", "PATH", "is missing: tune predict RUN PATH …"),
        ("rm", "RUN", "is missing: tune rm RUN …"),
        ("ls --quite", "--quite", "is no flag of tune ls. Did you mean --quiet?"),
        ("run --lr 0.1", "--lr", "is no flag of tune run. A key is written without dashes: lr=VALUE"),
        ("run --nproc-per-node=2", "--nproc-per-node=2", "A key is written without dashes: trainer.devices=VALUE"),
        ("run --learning-rate 1", "--learning-rate", "A key is written without dashes: lr=VALUE"),
        ("run --jbos 2", "--jbos", "Did you mean --jobs?"),
        ("top x --epochs", "--epochs", "is no flag of tune top   (tune top --help)"),
        ("status a b", "b", "is one word too many"),
        ("export latest --format onxn", "--format", "safetensors, card, not 'onxn'. Did you mean onnx?"),
        ("export latest --format", "--format", "needs a value"),
        ("predict latest a --top 0", "--top", "0 is below 1"),
        ("run -m --jobs 0.5", "--jobs", "'0.5' is no whole number"),
        ("run -m --time-limit soon", "--time-limit", "'soon' is no number of seconds"),
        ("run -m --time-limit -1", "--time-limit", "-1 is not above 0"),
        ("completion", "SHELL", "bash, zsh or fish"),
    ],
)
def test_flags_and_words_that_do_not_fit_are_said_as_any_problem_is(capsys, line, key, said):
    assert main([*line.split(), "--json"]) == 2
    out, err = capsys.readouterr()
    (problem,) = json.loads(out)["problems"]
    assert (problem["key"], problem["where"]) == (key, "command line")
    assert said in problem["text"]
    assert f"{key}  (command line)  {problem['text']}" in err
