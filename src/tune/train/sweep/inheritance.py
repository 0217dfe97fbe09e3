"""What a sweep with an attack says: how often it succeeds against each of the methods, such as depths of freezing."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from tune.report.figures.png import png
from tune.run_dir import atomic_write, read_json, shown
from tune.train.sweep.leaderboard import Line, Row, ranked

PICTURE = "attacks.png"
_SUCCESS = "test/attack_success@"
_CLEAN = "test/accuracy"


@dataclass(frozen=True)
class _Method:
    """Trials that differ only in their seeds, as a line of the leaderboard, under a name."""

    name: str
    line: Line

    def mean(self, metric: str) -> float | None:
        values = self.line.values(metric)
        return statistics.fmean(values) if values else None

    def right(self) -> int:
        """Rows that the attack could turn, over all trials."""
        done = [row for row in self.line.rows if row.status == "done" and row.run_dir is not None]
        told = [read_json(Path(row.run_dir or "") / "run.json")["attack"] for row in done]
        return sum(round(each["rows"] * each["clean_accuracy"]) for each in told)


def lines(rows: list[Row], sweep_dir: Path) -> list[str]:
    """Success by method and ε in the order of the grid, the first method against the last, and where the picture is.

    The difference counts if it is above twice its standard error, ``sqrt(p (1 - p) / n + q (1 - q) / m)`` of shares p
    and q of n and m rows, as if these were other rows.

    Args:
        rows: all trials of a sweep.
        sweep_dir: folder that gets the picture.

    Returns:
        No line if fewer than two methods were attacked.
    """
    names = {name for row in rows if row.status == "done" for name in row.metrics or {} if name.startswith(_SUCCESS)}
    methods = [method for method in _methods(rows) if any(method.mean(name) is not None for name in names)]
    if len(methods) < 2:
        return []
    metrics = sorted(names, key=_eps)
    width = max(len(method.name) for method in methods)
    told = [f"attack success at {', '.join(f'{_eps(name):g}' for name in metrics)} /255"]
    for method in methods:
        clean = method.mean(_CLEAN)
        cells = "  ".join(_text(method.mean(name)) for name in metrics)
        told.append(f"  {method.name:<{width}}  {cells}   {_CLEAN} {_text(clean)}")
    told += _difference(methods[0], methods[-1], metrics[-1])
    atomic_write(sweep_dir / PICTURE, _picture(methods, metrics))
    return [*told, f"  picture   {shown(sweep_dir / PICTURE)}"]


def _methods(rows: list[Row]) -> list[_Method]:
    found = sorted(ranked(rows, _CLEAN, maximize=True), key=lambda line: line.rows[0].number)
    return [_Method(line.rows[0].choices.get("case") or line.label or "all", line) for line in found]


def _difference(first: _Method, last: _Method, metric: str) -> list[str]:
    before, after = first.mean(metric), last.mean(metric)
    if before is None or after is None:
        return []
    change = after - before
    error = math.sqrt(before * (1 - before) / first.right() + after * (1 - after) / last.right())
    verdict = ("less" if change < 0 else "more") if abs(change) > 2 * error else "no clear difference"
    told = f"{first.name} → {last.name} at {_eps(metric):g}/255: {change:+.3f} ± {error:.3f}: {verdict}"
    return [f"  {told}" + (" is inherited" if verdict in ("less", "more") else "")]


def _picture(methods: list[_Method], metrics: list[str]) -> bytes:
    """Success by method, a line for each ε, with the accuracy on clean rows, as PNG."""
    from matplotlib.figure import Figure  # 0.4 s that other sweeps need not pay

    figure = Figure(figsize=(1.5 + 1.5 * max(3, len(methods)), 4), layout="constrained")
    axes = figure.subplots()
    places = list(range(len(methods)))
    nothing = float("nan")
    for number, name in enumerate(metrics):
        values = [method.mean(name) for method in methods]
        shade = str(0.65 * (1 - (number + 1) / len(metrics)))
        heights = [nothing if value is None else value for value in values]
        axes.plot(places, heights, marker="o", color=shade, label=f"fooled at {_eps(name):g}/255")
    clean = [nothing if (value := method.mean(_CLEAN)) is None else value for method in methods]
    axes.plot(places, clean, marker="s", linestyle="--", color="tab:green", label="accuracy, clean")
    axes.set_xticks(places, [method.name for method in methods])
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of test rows")
    axes.set_title("Attack success")
    return png(figure)


def _eps(metric: str) -> float:
    return float(metric.removeprefix(_SUCCESS))


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
