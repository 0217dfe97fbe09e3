"""`tune next`: what the curves of a run say, and what to try next; two lines of it stand at the end of every run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tune.cli.arguments import parser_of
from tune.errors import ConfigError, Problem
from tune.report.commands import with_words
from tune.report.diagnosis import diagnose
from tune.report.story import read_story
from tune.run_dir import find_run, read_json, run_id, shown


def next(words: list[str]) -> int:
    """`tune next RUN`. Returns the exit code."""
    parser = parser_of("next", "What the curves of a run say, and what to try next.", "output")
    parser.add_argument("run", help="run folder, start of its id, SWEEP#NUMBER, or latest")
    asked = parser.parse_args(words)
    run_dir = _run_with_curves(asked.run, asked.output)
    verdicts = diagnose(read_story(run_dir))
    typed = (run_dir / "overrides.txt").read_text().splitlines()
    for verdict in verdicts:
        print(f"verdict   {verdict.name}: {verdict.evidence}")
        width = max((len(" ".join(each.words)) for each in verdict.tries), default=0)
        for each in verdict.tries:
            print(f"try       {' '.join(each.words):<{width}}  {each.why}")
            print(f"          {shlex.join(with_words(typed, each.words))}")
    if asked.json:
        print(json.dumps({"run_dir": str(run_dir), "verdicts": [asdict(verdict) for verdict in verdicts]}))
    return 0


def verdict_of(run_dir: Path, say: Callable[[str], None]) -> None:
    """Say, when a run is done or diverged, its gravest verdict and what could be tried; of a chain, of its last stage.

    Args:
        run_dir: of a run, or of a chain.
        say: prints a line for the user.
    """
    if read_json(run_dir / "run.json")["status"] not in ("done", "diverged"):
        return
    stages = sorted(run_dir.glob("stage-*[0-9]"), key=lambda path: path.name.rpartition("-")[2].zfill(4))
    stages = [path for path in stages if path.name.removeprefix("stage-").isdigit()]  # no earlier attempts
    name = shown(stages[-1]) if stages else run_id(run_dir)
    verdicts = diagnose(read_story(stages[-1] if stages else run_dir))
    if not verdicts:
        return
    also = f"   also: {', '.join(verdict.name for verdict in verdicts[1:])}" if verdicts[1:] else ""
    say(f"verdict   {verdicts[0].name}: {verdicts[0].evidence}{also}")
    tried = [" ".join(each.words) for each in verdicts[0].tries]
    if tried:
        say(f"try       {' · '.join(tried)}   (tune next {name})")


def _run_with_curves(run: str, output: str) -> Path:
    """The folder of a run that has a curve, or has diverged before it had one.

    Raises:
        ConfigError: if it is something else, or has none yet.
    """
    run_dir = find_run(run, output)
    if (run_dir / "ensemble.json").is_file():
        raise ConfigError(Problem(run, "is an ensemble, which has no curve; take one of its members"))
    if (run_dir / "stage-1").is_dir():
        raise ConfigError(Problem(run, f"is a chain; take one of its stages: tune next {shown(run_dir / 'stage-1')}"))
    record = read_json(run_dir / "run.json")
    if record["status"] != "diverged" and not (run_dir / "metrics.csv").is_file():
        cause = f" ({record['cause']})" if record.get("cause") else ""
        raise ConfigError(Problem(run, f"is {record['status']}{cause} and has no epoch behind it: no curve to judge"))
    return run_dir
