"""`tune status`: what runs now and how far it is; of a sweep what is done, what failed and why."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tune.cli.arguments import parser_of
from tune.cli.results.listed import counted
from tune.cli.results.progress import Progress, progress
from tune.cli.results.text import span, value
from tune.cli.results.top import rows_of
from tune.report.runs.collect import DEAD, Entry, Sweep, collect, find_latest, find_sweep, read_entry
from tune.report.sweep import tied
from tune.run_dir import find_run, shown
from tune.talk import say
from tune.train.sweep.ledger import is_held
from tune.train.sweep.lines import failure


def status(words: list[str]) -> int:
    """`tune status [SWEEP|RUN]`. Returns the exit code."""
    parser = parser_of("status", "What runs now, how far it is, and what failed.", "output")
    parser.add_argument("of", nargs="?", default="", metavar="SWEEP", help="a sweep or a run (all that run now)")
    asked = parser.parse_args(words)
    output, now = Path(asked.output), time.time()
    of = str(find_latest(output) or "latest") if asked.of == "latest" else asked.of
    entries: list[Entry] = []
    sweeps: list[Sweep] = []
    if not of:
        entries, sweeps = collect(output) if output.is_dir() else ([], [])
        entries = [entry for entry in entries if entry.status in ("running", DEAD)]
        sweeps = [sweep for sweep in sweeps if is_held(sweep.folder)]
    elif sweep := find_sweep(of, output) if of != "latest" else None:
        sweeps = [sweep]
    else:
        entry = read_entry(find_run(of, output))
        entries = [entry] if entry else []
    runs = [progress(entry, now) for entry in entries]
    told = [_of_sweep(sweep, now) for sweep in sweeps]
    if asked.json:
        print(json.dumps({"runs": [run.as_json() for run in runs], "sweeps": told}))
        return 0
    for run in runs:
        print(f"run       {run.entry.id}  {run.entry.name}  {_line(run)}")
    for sweep, about in zip(sweeps, told, strict=True):
        _tell(sweep, about, now)
    if any(run.entry.status == DEAD for run in runs):
        say("dead: the process is gone without a word; tune resume RUN goes on, tune rm RUN removes it")
    if not runs and not sweeps:
        print(f"nothing runs in {asked.output}   (tune ls runs, tune status SWEEP)")
    return 0


def _line(run: Progress) -> str:
    """How far a run is, in a line."""
    words = [] if run.entry.status == "running" else [run.entry.status]
    if cause := run.entry.record.get("cause"):
        words[-1] += f": {cause}"
    if run.part:
        words.append(run.part)
    group = run.entry.record.get("fused")
    if group is not None and run.entry.status == "running":
        words.append(f"trains as one of group {group}, which tells at its end")
    elif run.epoch or run.entry.status == "running":
        words.append(f"epoch {run.epoch}/{run.epochs}")
    if run.best is not None:
        words.append(f"{run.entry.objective} {value(run.value)} (best {value(run.best)} at {run.best_epoch})")
    words.append(span(run.seconds))
    if run.seconds_left is not None:
        words.append(f"about {span(run.seconds_left)} left")
    return "   ".join(words)


def _of_sweep(sweep: Sweep, now: float) -> dict[str, Any]:
    """What there is to tell of a sweep.

    The time left goes by the trials of its own that ended since its command was given last.
    """
    own = [each.entry for each in sweep.trials if each.entry and each.entry.run_dir.parent == sweep.folder]
    runs = [progress(entry, now) for entry in own if entry.status == "running"]
    ended = [entry for entry in own if entry.written > sweep.began and entry.status not in ("running", DEAD)]
    counts = sweep.counts()
    to_come = counts.get("missing", 0) + counts.get("running", 0)
    is_running = is_held(sweep.folder)
    best = sweep.best()
    left = None
    if is_running and ended:
        last = max(entry.written for entry in ended)
        left = round(max(0.0, to_come * (last - sweep.began) / len(ended) - (now - last)), 1)
    return {
        "sweep": sweep.id,
        "sweep_dir": str(sweep.folder),
        "name": sweep.about["name"],
        "status": "running" if is_running else "done" if counts == {"done": len(sweep.trials)} else "stopped",
        "counts": counts,
        "objective": sweep.objective,
        "best": None if best is None else {"value": best[0], "trial": best[1][0], "ties": best[1][1:]},
        "seconds_left": left,
        "running": [run.as_json() for run in runs],
        "failed": [
            {
                "trial": trial.number,
                "status": trial.status,
                "cause": trial.entry.record.get("cause", ""),
                "overrides": trial.overrides,
                "run_dir": str(trial.entry.run_dir),
            }
            for trial in sweep.trials
            if trial.entry and trial.status in ("failed", "diverged")
        ],
    }


def _tell(sweep: Sweep, about: dict[str, Any], now: float) -> None:
    best = about["best"]
    words = [f"{about['status']}: {counted(about['counts'])} of {len(sweep.trials)}"]
    if best:
        words.append(f"best {sweep.objective} {value(best['value'])} of {tied([best['trial'], *best['ties']])}")
    if about["seconds_left"] is not None:
        words.append(f"about {span(about['seconds_left'])} left")
    print(f"sweep     {sweep.id}  {about['name']}  {'   '.join(words)}")
    rows = rows_of(sweep)
    for trial, row in zip(sweep.trials, rows, strict=True):
        if trial.entry and trial.status == "running" and trial.entry.run_dir.parent == sweep.folder:
            print(f"  trial {trial.number}/{len(rows)}  {_line(progress(trial.entry, now))}")
        elif trial.status in ("failed", "diverged"):
            print(f"  {failure(row, rows)}")
    if about["status"] == "stopped":
        say(f"stopped: the same command runs what is missing   (tune top {sweep.id}, {shown(sweep.folder)})")
