"""The page of a sweep: which trials are best, what each key did, what failed."""

from __future__ import annotations

import shlex
import statistics
from collections import Counter, defaultdict
from itertools import combinations

from tune.report.commands import REPEATS, masked
from tune.report.figures import keys as draw
from tune.report.figures.keys import Key
from tune.report.page.blocks import Block, Code, Facts, Figure, Figures, Numbers, Part, Section, Table, Text
from tune.report.runs.collect import DEAD, Sweep, Trial
from tune.report.sections.about import duration, number
from tune.report.sweep import AUTO, Line, chosen, lines_of, tied

_METRICS = ("test/accuracy", "test/auroc", "test/f1_macro", "val/loss")
_LINES = 100
_DRAWN = 8
"""Keys that get a drawing of their own."""
_CELLS = 14
"""Values of a key that have room in a heat map."""


def part_of(sweep: Sweep, key: str) -> Part:
    """Everything about a sweep.

    Args:
        sweep: its files.
        key: letters and digits that no other part of the page has, for the names of its drawings.
    """
    counts = Counter(trial.status for trial in sweep.trials)
    status = "done" if set(counts) == {"done"} else "running" if "running" in counts else f"{counts['done']} done"
    drawn = _drawings(sweep, key)
    typed = [masked(word) for word in sweep.about["command"]]
    sections = [
        Section("Result", _result(sweep, counts)),
        Section("Leaderboard", _leaderboard(sweep)),
        Section("What each key does", drawn[0]),
        Section("Keys together", drawn[1]),
        Section("What is not done", _failed(sweep)),
        Section("How to repeat it", [Code(shlex.join(["tune", "run", "-m", *typed]))]),
    ]
    how = "more is better" if sweep.maximize else "less is better"
    about = f"{sweep.folder.name}   {len(sweep.trials)} trials, by {sweep.objective} ({how})"
    return Part(f"{sweep.about['name']} {sweep.id}", status, about, sections)


def _result(sweep: Sweep, counts: Counter[str]) -> list[Block]:
    lines = lines_of(sweep)
    best = lines[0] if lines else None
    items = [(status, f"{count:,}", "trials" if count > 1 else "trial") for status, count in counts.items()]
    mean = best.mean(sweep.objective) if best is not None else None
    if best is None or mean is None:
        return [Numbers(items), Text("No trial has a result yet.")]
    trial = best.trials[0]
    what = sweep.words(trial) or "all alike"
    equal = [line for line in lines if line.mean(sweep.objective) == mean]
    if len(equal) > 1:
        what = f"{tied([each.number for line in equal for each in line.trials])}; the first: {what}"
    items.insert(
        0, (f"best {sweep.objective}", _mean(best, sweep.objective), f"n = {len(best.values(sweep.objective))}")
    )
    facts = [("best", what), ("look at it", f"tune report {trial.entry.id if trial.entry else sweep.id}")]
    return [Numbers(items), Facts([*facts, ("time of its commands", duration(sweep.seconds))])]


def _leaderboard(sweep: Sweep) -> list[Block]:
    lines = lines_of(sweep)
    metrics = [sweep.objective, *(name for name in _METRICS if name != sweep.objective and _is_measured(sweep, name))]
    repeats = any(len(line.trials) > 1 for line in lines)
    by_auto = {key for trial in sweep.trials for key in chosen(trial.record)}
    keys, rows = [*sweep.keys, *(key for key in AUTO if key in by_auto and key not in sweep.keys)], []
    for place, line in enumerate(lines[:_LINES], start=1):
        values = [line.value(key) or "–" for key in keys]
        numbers = [_mean(line, name) for name in metrics]
        trials = ", ".join(str(trial.number) for trial in line.trials)
        rows.append(
            [str(place), *values, *numbers, *([str(len(line.values(sweep.objective)))] if repeats else []), trials]
        )
    head = ["", *keys, *metrics, *(["n"] if repeats else []), "trial"]
    more = len(lines) - _LINES
    said = [Text(f"{more} more in summary.csv.", quiet=True)] if more > 0 else []
    if repeats:
        told = "Trials that differ in seed, fold or draw of rows share a line: mean ± standard deviation of n."
        said.append(Text(told, quiet=True))
    return [Table(head, rows, words=range(1, 1 + len(keys))), *said]


def _drawings(sweep: Sweep, key: str) -> tuple[list[Block], list[Block]]:
    """One key at a time; and several together."""
    measured = [(trial, value) for trial in sweep.trials if (value := trial.metric(sweep.objective)) is not None]
    values = [value for _, value in measured]
    keys = [Key(name, [trial.value(name) or "–" for trial, _ in measured]) for name in sweep.keys]
    keys = [each for each in keys if len(each.kinds) > 1]
    if not keys:
        return [], []
    keys.sort(key=lambda each: -_effect(each, values))
    alone = [
        Figure(
            draw.against(f"{key}key{i}", each, values, sweep.objective),
            f"{sweep.objective} by {each.name}",
            "; ".join(f"{kind}: {number(mean)}" for kind, mean in _means(each, values).items()),
        )
        for i, each in enumerate(keys[:_DRAWN])
    ]
    said = Text(
        "A point is a trial, a line or dash the mean at that value; what mattered most comes first.", quiet=True
    )
    together: list[Figure] = []
    narrow = [each for each in keys if len(each.kinds) <= _CELLS]
    for across, down in list(combinations(narrow[:3], 2))[:3]:
        svg = draw.heat(f"{key}heat{len(together)}", across, down, values, sweep.objective)
        title = f"Mean {sweep.objective} by {across.name} and {down.name}"
        together.append(Figure(svg, title, _best_pair(across, down, values, sweep.maximize)))
    blocks: list[Block] = [Figures(together)] if together else []
    if len(keys) > 1 and len(values) > 2:
        svg = draw.parallel(f"{key}parallel", keys[:_DRAWN], values, sweep.objective, sweep.maximize)
        about = f"a line for each of {len(values)} trials through {', '.join(each.name for each in keys[:_DRAWN])}"
        blocks.append(Figures([Figure(svg, "All trials at once (orange is best)", about, wide=True)]))
    return [Figures(alone), said], blocks


def _failed(sweep: Sweep) -> list[Block]:
    ended = [trial for trial in sweep.trials if trial.status not in ("done", "running")]
    if not ended:
        return []
    causes = Counter(map(_cause, ended))
    rows = [(str(trial.number), trial.status, _cause(trial), sweep.words(trial) or _repeat(trial)) for trial in ended]
    told = "; ".join(f"{count} × {cause}" for cause, count in causes.most_common(5))
    log = f"The log of each is {sweep.folder.name}/NUMBER/run.log; the same command runs what is missing."
    return [
        Text(told),
        Table(("trial", "status", "cause", "words"), rows[:_LINES], words=(1, 2, 3)),
        Text(log, quiet=True),
    ]


def _cause(trial: Trial) -> str:
    unsaid = {"missing": "not begun", DEAD: "its process is gone"}
    return trial.record.get("cause") or unsaid.get(trial.status, "–")


def _repeat(trial: Trial) -> str:
    return " ".join(f"{key}={value}" for key in REPEATS if (value := trial.value(key)))


def _mean(line: Line, metric: str) -> str:
    values = line.values(metric)
    if not values:
        return "–"
    deviation = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{number(statistics.fmean(values))}{deviation}"


def _is_measured(sweep: Sweep, metric: str) -> bool:
    return any(trial.metric(metric) is not None for trial in sweep.trials)


def _means(key: Key, values: list[float]) -> dict[str, float]:
    at: dict[str, list[float]] = defaultdict(list)
    for kind, value in zip(key.values, values, strict=True):
        at[kind].append(value)
    return {kind: statistics.fmean(at[kind]) for kind in key.kinds}


def _effect(key: Key, values: list[float]) -> float:
    means = _means(key, values).values()
    return max(means) - min(means)


def _best_pair(across: Key, down: Key, values: list[float], maximize: bool) -> str:
    at: dict[tuple[str, str], list[float]] = defaultdict(list)
    for x, y, value in zip(across.values, down.values, values, strict=True):
        at[x, y].append(value)
    means = {pair: statistics.fmean(some) for pair, some in at.items()}
    best = (max if maximize else min)(means, key=means.__getitem__)
    return f"best at {across.name}={best[0]}, {down.name}={best[1]}: {number(means[best])}"
