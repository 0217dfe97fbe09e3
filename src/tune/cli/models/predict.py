"""`tune predict`: what a finished run says of images, row by row as it said it of its own test part.

Torch is imported after the images have been found.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of, whole
from tune.cli.models.sources import images_of
from tune.errors import ConfigError, Problem
from tune.run_dir import atomic_write, find_run, run_id, shown
from tune.talk import say

if TYPE_CHECKING:
    from tune.train.finished.form import Answered, Form

_SHOWN = 20  # bad images


def predict(words: list[str]) -> int:
    """`tune predict RUN PATH… [--out FILE]`. Returns the exit code: 3 if some images cannot be read."""
    parser = parser_of("predict", "What a finished run, or an ensemble, says of images.", "allow", "output")
    parser.add_argument("run", help="run folder, start of its id, SWEEP#NUMBER, or latest")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image, folder (at any depth), pattern in quotes, CSV file with a column path, or - for names on stdin",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV file to write (the table goes to stdout)")
    parser.add_argument("--top", type=whole(1), metavar="K", help="the K likeliest classes, not all probabilities")
    parser.add_argument("--root", type=Path, help="folder that relative paths of a CSV file, or of stdin, start from")
    parser.add_argument("--batch-size", type=whole(1), default=32, metavar="N", help="images in a forward pass (32)")
    parser.add_argument("--workers", type=whole(1), metavar="N", help="threads that decode (a core each, 4 at most)")
    asked = parser.parse_args(words)
    run_dir = find_run(asked.run, asked.output)
    images = images_of(asked.paths, asked.root)
    if asked.out is not None and not asked.out.absolute().parent.is_dir():
        raise ConfigError(Problem("--out", f"there is no folder {asked.out.absolute().parent}", "command line"))
    import tune
    from tune.train.finished.form import Form

    form = Form(tune.load(run_dir, asked.output, asked.allow), asked.allow)
    if asked.top and asked.top > len(form.classes):
        raise ConfigError(Problem("--top", f"is {asked.top}, and there are {len(form.classes)} classes"))
    started = time.monotonic()
    bad: list[tuple[int, str]] = []
    workers = asked.workers or min(4, os.cpu_count() or 1)
    rows: list[dict[str, Any]] = []
    for answered in form.over(images, batch_size=asked.batch_size, workers=workers, bad=bad):
        rows += rows_of(form, answered, images, asked.top)
    seconds = time.monotonic() - started
    text = _as_csv(rows, columns_of(form, asked.top))
    if asked.out is not None:
        atomic_write(asked.out, text)
        print(f"file      {shown(asked.out)}   {len(rows)} rows of {run_id(run_dir)} in {seconds:.1f} s")
    elif not asked.json:
        sys.stdout.write(text)
    for place, reason in bad[:_SHOWN]:
        say(f"skipped   {images[place]}: {reason}")
    if bad:
        more = f" ({_SHOWN} are shown)" if len(bad) > _SHOWN else ""
        say(f"{len(bad)} of {len(images)} images cannot be read{more}")
    if asked.json:
        skipped = [{"path": str(images[place]), "reason": reason} for place, reason in bad]
        answer = {"run_dir": str(run_dir), "status": "done", "seconds": round(seconds, 3), "rows": len(rows)}
        print(json.dumps(answer | ({} if asked.out else {"predictions": rows}) | {"skipped": skipped}))
    return 3 if bad else 0


def columns_of(form: Form, top: int | None) -> list[str]:
    """Names of the columns, in order."""
    if top:
        said = [name for place in range(1, top + 1) for name in (f"class_{place}", f"p_{place}")]
    else:
        said = [f"p_{name}" for name in form.classes]
    of_tasks = [
        f"{name}/{column}"
        for name, task in form.tasks.items()
        for column in ("predicted", *(f"p_{each}" for each in task.classes))
    ]
    return ["path", "predicted", *said, *of_tasks]


def rows_of(form: Form, answered: Answered, images: list[Path], top: int | None) -> Iterator[dict[str, Any]]:
    """A row of the table for each image that was answered."""
    from tune.evaluate.tasks import told
    from tune.evaluate.threshold import decide

    predicted = decide(answered.probs, form.threshold).tolist()
    of_tasks = {
        name: (task, answered.tasks[name], told(task, answered.tasks[name])) for name, task in form.tasks.items()
    }
    for i, (place, guess, probs) in enumerate(zip(answered.rows, predicted, answered.probs.tolist(), strict=True)):
        row = {"path": str(images[place]), "predicted": form.classes[guess]}
        if top:
            best = sorted(range(len(probs)), key=lambda k: -probs[k])[:top]
            for number, k in enumerate(best, start=1):
                row |= {f"class_{number}": form.classes[k], f"p_{number}": probs[k]}
        else:
            row |= {f"p_{name}": value for name, value in zip(form.classes, probs, strict=True)}
        for name, (task, answers, words) in of_tasks.items():
            row[f"{name}/predicted"] = words[i]
            if task.classes:
                row |= {f"{name}/p_{each}": float(p) for each, p in zip(task.classes, answers[i], strict=True)}
        yield row


def _as_csv(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """The table as predictions/test.csv writes it: six digits of each probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row[column] for column in columns)
        writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in values)
    return text.getvalue()
