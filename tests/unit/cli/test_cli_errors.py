"""What the command line says of errors that nobody foresaw, and where a verb may stand."""

from __future__ import annotations

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
