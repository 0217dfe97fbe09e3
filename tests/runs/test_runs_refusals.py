"""What cannot run is refused before torch is imported: one message with key and place, exit code 2, nothing made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

QUICKSTART = "+experiment=quickstart"
OWN_FILE = "conf/experiment/mine.yaml"

# Words of the command line → the key that the message names, what it says of it, and where the mistake was written.
MISTAKES = {
    "a key that is not there": ([QUICKSTART, "lerning_rate=1"], "lerning_rate", "Did you mean lr,", "command line"),
    "the same with a plus": ([QUICKSTART, "+lerning_rate=1"], "lerning_rate", "Did you mean lr,", "command line"),
    "a word for a number": (
        [QUICKSTART, "lr=abc"],
        "lr",
        "must be a number in (0, inf) or auto, not 'abc'",
        "command line",
    ),
    "not a number": ([QUICKSTART, "lr=.nan"], "lr", "must be a number in (0, inf) or auto, not '.nan'", "command line"),
    "a batch of no rows": ([QUICKSTART, "batch_size=0"], "batch_size", "not 0", "command line"),
    "an option that is not there": (["experiment=quikstart"], "experiment", "Did you mean quickstart?", "command line"),
    "a folder that is not there": (["data.root=/nowhere"], "data.root", "there is no folder /nowhere", "command line"),
}

# Body of the user's own experiment → as above.
OWN_MISTAKES = {
    "a key that is not there": ("lerning_rate: 3\n", "lerning_rate", "Did you mean lr,", f"{OWN_FILE}:4"),
    "a key of a part": ("optimizer:\n  beta: 0.8\n", "optimizer.beta", "Did you mean optimizer.betas", f"{OWN_FILE}:5"),
    "code to run": ("loss:\n  _target_: os.system\n", "loss._target_", "os.system is not allowed", f"{OWN_FILE}:5"),
    "a callback of Hydra": (
        "hydra:\n  callbacks:\n    mine:\n      _target_: os.system\n",
        "hydra.callbacks",
        "nothing below `hydra` acts here",
        f"{OWN_FILE}:4",
    ),
}


def refused(folder, *words: str) -> dict:
    """Run `tune run WORDS --json`, which must be refused as promised; returns its JSON."""
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    command = [sys.executable, "-X", "importtime", "-m", "tune", "run", *words, "--json"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment())
    seconds = time.monotonic() - began
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if is_import(line)}
    message = "\n".join(line for line in done.stderr.splitlines() if not is_import(line))
    print(f"{seconds:.2f} s\n{message}")  # shown with -s
    assert done.returncode == 2, message
    assert "Traceback" not in done.stderr
    assert not {"torch", "timm", "pytorch_lightning", "torchvision", "sklearn"} & imported
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == before
    assert len(done.stdout.splitlines()) == 1
    answer = json.loads(done.stdout)
    assert answer.keys() == {"status", "problems"}
    assert answer["status"] == "refused"
    for problem in answer["problems"]:
        assert problem.keys() == {"key", "text", "where"}
        assert f"{problem['key']} " in message
        assert f"({problem['where']})  {problem['text']}" in message
    return answer


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def is_import(line: str) -> bool:
    return line.startswith("import time:")


def write_own(folder, body: str) -> None:
    path = folder / OWN_FILE
    path.parent.mkdir(parents=True)
    path.write_text(f"# Mine.\ndefaults:\n  - override /data: synthetic\n{body}")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_on_the_command_line_is_refused(tmp_path, mistake):
    words, key, text, where = MISTAKES[mistake]
    (problem,) = refused(tmp_path, *words)["problems"]
    assert (problem["key"], problem["where"]) == (key, where)
    assert text in problem["text"]


@pytest.mark.parametrize("mistake", OWN_MISTAKES)
def test_a_mistake_in_an_experiment_of_ones_own_is_refused_with_file_and_line(tmp_path, mistake):
    body, key, text, where = OWN_MISTAKES[mistake]
    write_own(tmp_path, body)
    (problem,) = refused(tmp_path, "+experiment=mine")["problems"]
    assert (problem["key"], problem["where"]) == (key, where)
    assert text in problem["text"]


def test_all_mistakes_come_in_one_message(tmp_path):
    write_own(tmp_path, "epochs: -1\nloss:\n  _target_: os.system\n")
    problems = refused(tmp_path, "+experiment=mine", "lerning_rate=1", "regularize.dropout=1.5", "head=linaer")[
        "problems"
    ]
    assert {problem["key"] for problem in problems} == {
        "epochs",
        "loss._target_",
        "lerning_rate",
        "regularize.dropout",
        "head",
    }


def test_a_mistake_in_any_trial_of_a_sweep_stops_all_of_them_and_is_said_once(tmp_path):
    words = ["-m", "data=synthetic", "lr=1e-3,-1", "seed=0,1", "batch_size=16,0"]
    problems = refused(tmp_path, *words)["problems"]
    assert sorted(problem["key"] for problem in problems) == ["batch_size", "lr"]


def test_labels_that_cannot_be_learned_are_refused_before_anything_starts(tmp_path):
    from PIL import Image

    (tmp_path / "photos" / "only").mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "only" / f"{number}.png")
    (problem,) = refused(tmp_path, "data.root=photos")["problems"]
    assert "class" in problem["text"]
