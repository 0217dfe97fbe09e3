"""`tune ls runs` and `tune ls cache`: what there is on disk."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from tune.cli.arguments import parser_of
from tune.cli.results.text import aligned, span, value
from tune.report.runs.collect import DEAD, Entry, Sweep, collect
from tune.talk import say

WHAT = ("runs", "cache")


def is_about_results(words: list[str]) -> bool:
    """Whether the words of `tune ls` ask for runs or the cache, not for groups."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("what", nargs="?")
    parser.add_argument("--output")
    parser.add_argument("--config-dir")
    try:
        asked, _ = parser.parse_known_args(words)
    except SystemExit:
        return False
    return asked.what in WHAT


def ls(words: list[str]) -> int:
    """`tune ls runs [WORD …]` and `tune ls cache`. Returns the exit code."""
    parser = parser_of("ls", "List runs and sweeps, or what frozen networks said of images.", "output")
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("filter", nargs="*", help="only runs in whose line each of these words stands")
    asked = parser.parse_intermixed_args(words)
    if asked.what == "cache":
        from tune.cli.cache import cache

        return cache(["ls", *asked.filter, *(["--json"] if asked.json else [])])
    entries, sweeps = collect(Path(asked.output))
    every = sorted([*map(_of_run, entries), *map(_of_sweep, sweeps)], key=lambda row: row["when"])
    rows = [row for row in every if all(_stands_in(word, row) for word in asked.filter)]
    if asked.json:
        print(json.dumps({"runs": rows}))
        return 0
    for line in aligned([_cells(row) for row in rows]):
        print(line)
    of = f" of {len(every)}" if asked.filter else ""
    with_words = f" with {' and '.join(asked.filter)} in their line" if asked.filter else ""
    say(f"{len(rows)}{of} runs and sweeps in {asked.output}{with_words}, newest last")
    if any(row["status"] == DEAD for row in rows):
        say("dead: the process is gone without a word; tune resume RUN goes on")
    return 0


def counted(counts: dict[str, int]) -> str:
    """How many trials have each status, in words."""
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def in_short(entry: Entry) -> str:
    """What was typed for a run, without what its name and folder say already."""
    chosen = [word for word in entry.overrides if word.lstrip("+").startswith("experiment=")]
    known = [word for word in chosen if word.partition("=")[2].replace("/", "-") == entry.name]
    words = [word for word in entry.overrides if word not in known and not word.startswith("output=")]
    return " ".join([*words, *([f"(reproduces {first})"] if (first := entry.record.get("reproduces")) else [])])


def _of_run(entry: Entry) -> dict[str, Any]:
    seconds = entry.record.get("seconds")
    return {
        "run": entry.id,
        "run_dir": str(entry.run_dir),
        "name": entry.name,
        "status": entry.status,
        "when": entry.written,
        "seconds": seconds,
        "objective": entry.objective,
        "value": entry.metrics.get(entry.objective),
        "overrides": in_short(entry),
    }


def _of_sweep(sweep: Sweep) -> dict[str, Any]:
    best = sweep.best()
    return {
        "run": sweep.id,
        "run_dir": str(sweep.folder),
        "name": sweep.about["name"],
        "status": "sweep",
        "when": sweep.written,
        "seconds": sweep.seconds,
        "objective": sweep.objective,
        "value": None if best is None else best[0],
        "overrides": " ".join(sweep.about["command"]),
        "trials": sweep.counts(),
    }


def _cells(row: dict[str, Any]) -> list[str]:
    status = row["status"]
    if "trials" in row:
        status = f"sweep: {counted(row['trials'])}"
    when = f"{datetime.fromtimestamp(row['when']):%Y-%m-%d %H:%M}"
    metric = f"{row['objective']} {value(row['value'])}"
    return [row["run"], row["name"], status, when, span(row["seconds"]), metric, row["overrides"]]


def _stands_in(word: str, row: dict[str, Any]) -> bool:
    shown = [row["run"], row["name"], row["run_dir"], row["status"], row["overrides"], *row.get("trials", {})]
    return any(word.lower() in text.lower() for text in shown)
