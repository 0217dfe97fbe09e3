"""`tune evaluate` with other data, flipped views, a calibration or another threshold.

tune evaluate RUN data.root=NEW --tta --calibrate --threshold f1
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from tune.cli.models.asked_data import data_asked
from tune.errors import ConfigError, Problem
from tune.run_dir import shown, write_json
from tune.talk import say

THRESHOLDS = ("auto", "accuracy", "balanced_accuracy", "f1")


def is_otherwise(asked: argparse.Namespace) -> bool:
    """Whether any of them was given."""
    return bool(asked.overrides or asked.tta or asked.calibrate or asked.threshold is not None)


def otherwise(asked: argparse.Namespace, run_dir: Path, others: list[str]) -> int:
    """Measure and tell; the answer is kept in the run's folder as evaluations/NAME.json. Returns the exit code.

    Args:
        asked: flags and words.
        run_dir: of the run, or of an ensemble.
        others: flags of an attack that were given.

    Raises:
        ConfigError: if flags do not go together, or the run or the data do not.
    """
    if others:
        text = "an attack is measured on the test part as it is: leave out data=…, --tta, --calibrate and --threshold"
        raise ConfigError(Problem(f"--{others[0]}", text, "command line"))
    if asked.pictures:
        text = "are of the test part as the run decided: leave out data=…, --tta, --calibrate and --threshold"
        raise ConfigError(Problem("--pictures", text, "command line"))
    threshold = _threshold(asked.threshold)
    import tune
    from tune.train.finished.config import read_configs
    from tune.train.finished.form import Form
    from tune.train.finished.other import Ask, measure_rows
    from tune.train.finished.overlap import overlap
    from tune.train.finished.rows import other_rows, own_rows, validation_rows

    started = time.monotonic()
    configs = read_configs(run_dir, asked.output, asked.allow)
    first, config = next(iter(configs.items()))  # members have the same data and the same test part
    node = data_asked(asked.overrides, config, asked.allow) if asked.overrides else None
    form = Form(tune.load(run_dir, asked.output, asked.allow), asked.allow)
    rows = own_rows(first, config)["test"] if node is None else other_rows(node, form.classes)
    ask = Ask(asked.tta, asked.calibrate, threshold)
    answer = measure_rows(form, run_dir, config, ask, rows, lambda: validation_rows(run_dir, configs))
    answer = {"data": node, **answer}
    if node is not None:
        seen = overlap(rows.names, rows.images, configs)
        answer["overlap"] = seen.counts
        for line in seen.lines():
            say(line)
    _tell(answer, form.tasks, threshold)
    path = run_dir / "evaluations" / f"{_name(asked, node)}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, answer)
    print(f"file      {shown(path)}")
    if asked.json:
        seconds = round(time.monotonic() - started, 3)
        about = {"run_dir": str(run_dir), "status": "done", "seconds": seconds, "file": str(path)}
        print(json.dumps({**about, **answer}))
    return 0


def _tell(answer: dict[str, Any], tasks: dict[str, Any], threshold: float | str | None) -> None:
    from tune.cli.run import result_line
    from tune.train.experiment import Outcome

    for name, reason in answer["skipped"]:
        say(f"skipped   {name}: {reason}")
    if tasks:
        say(f"note      measured is the label alone, not {', '.join(tasks)}")
    kept = {key: answer[key] for key in ("metrics", "intervals", "counts", "threshold")}
    print(result_line(Outcome(Path(), "done", 0, **kept)))
    if len(answer["views"]) > 1:
        print(f"views     mean of {len(answer['views'])}: {', '.join(answer['views'])}")
    if isinstance(threshold, str):
        print(f"threshold {answer['threshold']:.4g}, the best on validation rows ({threshold})")
    if "calibration" in answer:
        from tune.train.finished.other import calibration_lines

        print("\n".join(calibration_lines(answer["calibration"])))


def _threshold(text: str | None) -> float | str | None:
    """What `--threshold` says.

    Raises:
        ConfigError: if it is neither a name nor a number between 0 and 1.
    """
    if text is None or text in THRESHOLDS:
        return text
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    known = ", ".join(THRESHOLDS)
    raise ConfigError(Problem("--threshold", f"{text!r} is neither between 0 and 1 nor one of {known}", "command line"))


def _name(asked: argparse.Namespace, node: dict[str, Any] | None) -> str:
    """A file name for what was asked; of other data its digest."""
    parts = ["test"]
    if node is not None:
        parts = [f"data-{hashlib.sha256(json.dumps(node, sort_keys=True).encode()).hexdigest()[:8]}"]
    parts += [flag for flag in ("tta", "calibrate") if getattr(asked, flag)]
    parts += [f"threshold-{asked.threshold}"] if asked.threshold is not None else []
    return "-".join(parts)
