"""What a person sees at a terminal, what stands in a file, and what `--quiet` leaves of it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

COLOUR = re.compile(rb"\x1b\[[0-9;]*[1-9][0-9;]*m")
MOVES = b"\x1b[2K"  # clears a line, which a bar does again and again


def at_a_terminal(tune, *words, **env):
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tune", *words]
    env = {**tune.env, "TERM": "xterm-256color", "COLUMNS": "120", **env}
    process = subprocess.Popen(command, cwd=tune.folder, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait(60) == 0, said.decode()
    return said


def test_a_run_at_a_terminal_has_a_bar_and_its_lines(tune, tiny):
    said = at_a_terminal(tune, "run", *tiny)
    assert MOVES in said
    assert COLOUR.search(said)
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", said)
    assert re.search(rb"epoch 2/2 .*\d+/\d+ +\d:\d\d:\d\d", plain)  # the bar: steps behind, and the time left
    assert re.search(rb"epoch 2/2  val/accuracy \d\.\d+ \(best", plain)
    assert b"done in" in plain


def test_a_sweep_at_a_terminal_has_a_bar_over_its_trials_and_no_colour_where_none_is_wanted(tune, tiny):
    said = at_a_terminal(tune, "run", "-m", *tiny, "epochs=1", "head=linear,mlp", "cache=never", NO_COLOR="1")
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", said)
    assert MOVES in said
    assert not re.search(rb"\x1b\[(3|4|9)[0-9][0-9;]*m", said)
    assert re.search(rb"trials .*[012]/2", plain)
    assert b"2 done" in plain


@pytest.mark.slow
def test_a_dumb_terminal_gets_lines_only(tune, tiny):
    assert b"\x1b[" not in at_a_terminal(tune, "run", *tiny, "epochs=1", TERM="dumb")


def test_a_pipe_gets_lines_only_and_quiet_none(tune, tiny):
    loud = tune("run", *tiny, "epochs=1")
    assert "epoch 1/1" in loud.stderr
    assert "\x1b" not in loud.stderr + loud.stdout
    silent = tune("run", *tiny, "epochs=1", "--quiet")
    assert silent.stderr == ""
    assert silent.stdout.splitlines()[0].startswith("test ")
    assert "done in" in silent.stdout


@pytest.mark.parametrize("more", [["lr=nan"], ["nonsense=1"]])
def test_quiet_keeps_no_error_back(tune, tiny, more):
    refused = tune("run", *tiny, *more, "--quiet", code=2)
    assert more[0].partition("=")[0] in refused.stderr


def test_quiet_says_why_a_run_failed(tune, tiny):
    failed = tune("run", *tiny, "freeze=full", "lr=1e30", "optimizer=sgd", "--quiet", code=5)
    (line,) = failed.stderr.splitlines()
    assert line.startswith("diverged: ")
