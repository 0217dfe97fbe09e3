"""`tune ensemble`: finished runs decide together; and what `tune run ensemble=…` tells of its ensembles."""

from __future__ import annotations

import glob
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of
from tune.config.habits import nearest
from tune.errors import ConfigError, Problem
from tune.run_dir import create_run_dir, find_run, read_json, run_id, shown
from tune.train.ensemble.lines import result_line
from tune.train.ensemble.plan import ensembles
from tune.train.objective import is_maximized
from tune.train.sweep.keep import best_of
from tune.train.sweep.leaderboard import table

if TYPE_CHECKING:
    from tune.train.sweep.leaderboard import Row

HOW = ("average", "vote", "soup", "stack")


def ensemble(words: list[str]) -> int:
    """`tune ensemble RUN RUN … [--combine HOW]`. Returns the exit code."""
    parser = parser_of("ensemble", "Let finished runs decide together.", "output")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs: folder, start of its id, SWEEP#NUMBER; or sweeps")
    parser.add_argument("--combine", default="average", metavar="HOW", help=f"{', '.join(HOW)} (average)")
    asked = parser.parse_args(words)
    if asked.combine not in HOW:
        close = nearest(asked.combine, list(HOW))
        hint = f". Did you mean {close[0]}?" if close else ""
        raise ConfigError(Problem("--combine", f"must be one of {', '.join(HOW)}, not {asked.combine!r}{hint}"))
    run_dirs = list(dict.fromkeys(path for run in asked.runs for path in _runs(run, Path(asked.output))))
    if len(run_dirs) < 2:
        raise ConfigError(Problem("ensemble", f"needs two finished runs or more, not {len(run_dirs)}"))
    from tune.train.ensemble.combine import combine

    folder = create_run_dir(Path(asked.output), "ensemble")
    try:
        record = combine(run_dirs, asked.combine, folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    print(result_line(record))
    print(f'folder {shown(folder)}     use it: tune.load("{run_id(folder)}")')
    if asked.json:
        print(json.dumps({"run_dir": str(folder), "status": "done", "metrics": record["metrics"]}))
    return 0


def _runs(run: str, output: Path) -> list[Path]:
    """The folders that a word means: one of a run, or those of a sweep's finished trials."""
    begun = glob.escape(run.removeprefix("sweep-"))
    sweeps = [Path(run)] if (Path(run) / "sweep.json").is_file() else sorted(output.glob(f"*/sweep-{begun}*"))
    if "#" in run or len(sweeps) != 1:
        return [find_run(run, output)]
    trials = [path.parent for path in sweeps[0].glob("[0-9]*/run.json") if path.parent.name.isdigit()]
    done = [path for path in trials if read_json(path / "run.json")["status"] == "done"]
    return sorted(done, key=lambda path: int(path.name))


def last_job(rows: list[Row], objective: str, allow: list[str], sweep_dir: Path) -> dict[str, Any] | None:
    """What is left to do behind the trials of a sweep.

    Members whose siblings are all done are put together. Trials keep only what trained; without an ensemble the best
    one gets the whole network, so that it can be handed on, unless its weights were not to be kept.
    """
    if ready := [each.job() for each in ensembles(rows, sweep_dir) if each.is_ready]:
        return {"complete": "", "allow": allow, "combine": ready}
    best = best_of(rows, objective)
    if best is None or best.run_dir is None or not (best.run_dir / "model.safetensors").is_file():
        return None
    if "partial: true" not in (best.run_dir / "model.yaml").read_text():
        return None
    return {"complete": str(best.run_dir), "allow": allow, "combine": []}


def shown_metrics(objective: str) -> tuple[str, ...]:
    """What the tables of a sweep show beside the objective: the same of the test part first."""
    return tuple(dict.fromkeys([objective.replace("val/", "test/", 1), "test/accuracy", "test/auroc"]))


def tell(rows: list[Row], objective: str, sweep_dir: Path) -> list[dict[str, Any]]:
    """Print what the ensembles of a sweep give; what `--json` says of each."""
    found, told, lines = ensembles(rows, sweep_dir), [], []
    for each in found:
        if not each.is_ready:
            missing = sum(row.status != "done" for row in each.rows)
            print(
                f"ensemble  {shown(each.folder)}: not put together, {missing} of {len(each.rows)} members are not done"
            )
        elif (each.folder / "run.json").is_file():
            record = read_json(each.folder / "run.json")
            told.append({"run_dir": str(each.folder), "metrics": record["metrics"], **record["ensemble"]})
            lines.append((each, record))
    if len(lines) == 1:
        each, record = lines[0]
        print(f"ensemble  {result_line(record)}")
        print(f'          folder {shown(each.folder)}     use it: tune.load("{run_id(each.folder)}")')
    elif lines:
        print(f"ensembles, in {shown(sweep_dir)}/ensemble-N:")
        as_rows = [each.as_row(number) for number, (each, _) in enumerate(lines, start=1)]
        for line in table(as_rows, objective, is_maximized(objective), list(shown_metrics(objective))):
            print(line)
    return told
