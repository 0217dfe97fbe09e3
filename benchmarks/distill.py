"""A small network alone, and with a teacher: solar cells, one split, three seeds of the student, mean ± sd.

Not a matter of time: `tune` alone. Two teachers, the larger backbone as it was published and the run of
`+experiment=elpv/teacher`; each line is a sweep over seeds of `+experiment=elpv/distill`.
`python -m benchmarks.distill [FOLDER]` takes a finished run as the second teacher; further words go to every student:
`python -m benchmarks.distill FOLDER epochs=1` for a look at whether it works.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.catalogue import line_of
from benchmarks.measure import process, tune

STUDENT = "+experiment=elpv/distill"
SEEDS = "seed=0,1,2"


def distill(teacher: str, words: list[str]) -> Iterator[str]:
    """A line per teacher and method: accuracy, balanced accuracy and ROC AUC of the test part.

    Args:
        teacher: folder of a finished run on the same split; empty to train one.
        words: further ones for every student.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache, output = Path(folder) / "cache", Path(folder) / "outputs"

        def asked(*words: str) -> dict:
            return json.loads(process(tune(*words, output=output), cache).out.splitlines()[-1])

        def students(*of: str) -> list[dict[str, float]]:
            return [trial["metrics"] for trial in asked("-m", STUDENT, SEEDS, *of, *words)["trials"]]

        if not teacher:
            teacher = asked("+experiment=elpv/teacher")["run_dir"]
        yield line_of("student alone", students("transfer=fine_tune", "~transfer.teacher"))
        for name, who in {
            "efficientnet_lite2 as published": [],
            "teacher": [f"transfer.teacher=run:{teacher}"],
        }.items():
            for method in ("distill", "relational"):
                yield line_of(f"transfer={method}, {name}", students(f"transfer={method}", *who))
        metrics = json.loads((Path(teacher) / "run.json").read_text())["metrics"]
        yield line_of("teacher", [metrics])


if __name__ == "__main__":
    run = [word for word in sys.argv[1:] if "=" not in word]
    print("| network | test accuracy | balanced accuracy | ROC AUC |\n|---|---|---|---|", flush=True)
    for line in distill(str(Path(run[0]).absolute()) if run else "", [word for word in sys.argv[1:] if "=" in word]):
        print(line, flush=True)
