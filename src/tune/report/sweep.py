"""What a sweep says: the trials that share a line, and what `auto` chose. Torch-free."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tune.report.runs.collect import Sweep, Trial

AUTO = ("lr", "freeze")
"""Keys that `auto` may choose."""
_NAMED = 5
"""Trials of a tie that are named."""


@dataclass(frozen=True)
class Line:
    """Trials that differ in nothing but what tells repetitions apart."""

    trials: list[Trial]

    def values(self, metric: str) -> list[float]:
        """Of the trials that have one."""
        return [value for trial in self.trials if (value := trial.metric(metric)) is not None]

    def mean(self, metric: str) -> float | None:
        """None where no trial has it."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def value(self, key: str) -> str:
        """Of a key, with what `auto` chose; empty where it is not there."""
        return found_by_auto(key, (chosen(trial.record) for trial in self.trials)) or self.trials[0].value(key)


def lines_of(sweep: Sweep) -> list[Line]:
    """Best mean of the objective first; those without any last."""
    groups: dict[tuple[str, ...], list[Trial]] = defaultdict(list)
    for trial in sweep.trials:
        groups[tuple(trial.value(key) for key in sweep.keys)].append(trial)
    sign = -1 if sweep.maximize else 1

    def place(line: Line) -> tuple[bool, float]:
        mean = line.mean(sweep.objective)
        return mean is None, 0.0 if mean is None else sign * mean

    return sorted((Line(trials) for trials in groups.values()), key=place)


def tied(numbers: Sequence[int]) -> str:
    """The best trials in words: "trial 2", or "trials 1, 3 and 4 (a tie)", of many the first five."""
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    first, last = numbers[:-1], str(numbers[-1])
    if len(numbers) > _NAMED:
        first, last = numbers[:_NAMED], f"{len(numbers) - _NAMED} more"
    return f"trials {', '.join(map(str, first))} and {last} (a tie)"


def chosen(record: dict[str, Any]) -> dict[str, str]:
    """Rate and freezing that `auto` chose, by key, from a run.json."""
    auto = record.get("auto") or {}
    rate = {"lr": f"{auto['lr']['lr']:g}"} if "lr" in auto else {}
    return rate | ({"freeze": auto["freeze"]["option"]} if "freeze" in auto else {})


def found_by_auto(key: str, trials: Iterable[dict[str, str]]) -> str:
    """A key with all that `auto` chose for it in some trials, as "auto → 0.01, 0.02"; empty where it chose nothing."""
    found = dict.fromkeys(each[key] for each in trials if key in each)
    return f"auto → {', '.join(found)}" if found else ""
