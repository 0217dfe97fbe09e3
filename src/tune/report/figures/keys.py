"""What the swept keys did to the metric."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune.report.figures.canvas import COLORS, HALO, QUIET, SHADES, by_logarithm, canvas, label, labels, within_bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DECADES = 20.0
"""Largest value over smallest, from which on a key is drawn by its logarithm."""


@dataclass(frozen=True)
class Key:
    """A swept key: its name, and its value in each of N trials as it was typed."""

    name: str
    values: Sequence[str]

    @property
    def kinds(self) -> list[str]:
        """Distinct values: numbers by size, then words in the order of the grid."""
        found = list(dict.fromkeys(self.values))
        numbers = {text: value for text in found if (value := as_number(text)) is not None}
        return sorted(numbers, key=numbers.__getitem__) + [text for text in found if text not in numbers]

    @property
    def scale(self) -> str:
        """How it is drawn: "log", "linear", or "words" for what has no place on a line."""
        numbers = [as_number(text) for text in self.kinds]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers) or len(known) < 2:
            return "words"
        positive = [number for number in known if number > 0]
        spans = bool(positive) and max(positive) >= _DECADES * min(positive)
        if spans:
            return "log" if len(positive) == len(known) else "words"
        return "linear"

    def places(self) -> list[float]:
        """N places on its axis."""
        if self.scale == "words":
            order = {text: float(place) for place, text in enumerate(self.kinds)}
            return [order[text] for text in self.values]
        return [float(text) for text in self.values]


def as_number(text: str) -> float | None:
    """The number that a text is; None for a word."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def against(name: str, key: Key, values: Sequence[float], metric: str) -> str:
    """The metric of each trial against a key, and the mean at each of its values."""
    places = key.places()
    at: dict[float, list[float]] = defaultdict(list)
    for place, value in zip(places, values, strict=True):
        at[place].append(value)
    line = sorted((place, statistics.fmean(some)) for place, some in at.items())
    with canvas(name) as drawn:
        axes = drawn.axes
        axes.scatter(places, values, s=22, color=COLORS[0], alpha=0.6, linewidths=0)
        is_line = key.scale != "words"
        axes.plot(*zip(*line, strict=True), color=COLORS[1], marker="_" if not is_line else "", markersize=22,
                  linestyle="-" if is_line else "", linewidth=1.6, markeredgewidth=2)  # fmt: skip
        _axis(axes, key)
        axes.set_ylabel(metric)
        axes.margins(x=0.08, y=0.1)
        within_bounds(axes, [metric])
    return drawn.svg


def heat(name: str, across: Key, down: Key, values: Sequence[float], metric: str) -> str:
    """Mean of the metric at each pair of values of two keys."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.patches import Rectangle

    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    for x, y, value in zip(across.values, down.values, values, strict=True):
        cells[across.kinds.index(x), down.kinds.index(y)].append(value)
    means = {place: statistics.fmean(some) for place, some in cells.items()}
    ends = Normalize(min(means.values()), max(means.values()))
    shade = LinearSegmentedColormap.from_list("shades", SHADES)
    columns, lines = len(across.kinds), len(down.kinds)
    with canvas(name, max(4.0, min(1.6 + 0.62 * columns, 7.5)), 1.2 + 0.42 * lines) as drawn:
        axes = drawn.axes
        for (i, j), mean in means.items():
            share = float(ends(mean)) if ends.vmax != ends.vmin else 0.5
            axes.add_patch(Rectangle((i - 0.47, j - 0.45), 0.94, 0.9, facecolor=shade(share)))
            ink = "#ffffff" if share > 0.42 else "#10203a"
            axes.text(
                i,
                j,
                f"{mean:.3f}" if abs(mean) < 10 else f"{mean:.3g}",
                ha="center",
                va="center",
                color=ink,
                fontsize=9,
            )
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(-0.5, lines - 0.5))
        axes.set_xticks(range(columns), labels(across.kinds, 14), rotation=90 if columns > 7 else 0)
        axes.set_yticks(range(lines), labels(down.kinds, 18))
        axes.set_xlabel(label(across.name, 40))
        axes.set_ylabel(label(down.name, 26))
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return drawn.svg


def parallel(name: str, keys: Sequence[Key], values: Sequence[float], metric: str, maximize: bool) -> str:
    """A line for each trial through its values of all keys to its metric; the better, the darker."""
    from matplotlib.colors import LinearSegmentedColormap

    shade = LinearSegmentedColormap.from_list("shades", (QUIET, COLORS[0], COLORS[1]))
    heights = [_heights(key) for key in keys]
    low, high = min(values), max(values)
    rank = [(value - low) / (high - low) if high > low else 0.5 for value in values]
    order = sorted(range(len(values)), key=lambda i: rank[i], reverse=not maximize)
    with canvas(name, max(5.2, min(1.9 * (len(keys) + 1), 11.0)), 3.4) as drawn:
        axes = drawn.axes
        for i in order:
            good = rank[i] if maximize else 1 - rank[i]
            path = [*(height[i] for height in heights), rank[i]]
            axes.plot(range(len(path)), path, color=shade(good), alpha=0.35 + 0.5 * good, linewidth=0.9 + good)
        for place, key in enumerate(keys):
            axes.axvline(place, color=QUIET, linewidth=0.8)
            for text in _marks(key):
                height = _heights(key)[list(key.values).index(text)]
                axes.text(place + 0.03, height, label(text, 16), fontsize=8, va="center", color=HALO)
        axes.axvline(len(keys), color=QUIET, linewidth=0.8)
        for height, value in ((0, low), (1, high)) if high > low else ((0.5, low),):
            axes.text(len(keys) - 0.03, height, f"{value:.3g}", fontsize=8, va="center", ha="right", color=HALO)
        axes.set(xlim=(-0.1, len(keys) + 0.1), ylim=(-0.06, 1.06))
        axes.set_xticks(range(len(keys) + 1), [*labels([key.name for key in keys], 20), label(metric)])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return drawn.svg


def _axis(axes: Axes, key: Key) -> None:
    axes.set_xlabel(label(key.name, 40))
    if key.scale == "log":
        by_logarithm(axes, "x", min(key.places()), max(key.places()))
    elif key.scale == "words":
        names = labels(key.kinds, 18)
        is_long = sum(map(len, names)) > 44
        axes.set_xticks(range(len(names)), names, rotation=90 if is_long else 0)
    elif len(key.kinds) <= 5:
        axes.set_xticks([float(text) for text in key.kinds], labels(key.kinds))


def _heights(key: Key) -> list[float]:
    places = key.places()
    if key.scale == "log":
        places = [math.log(place) for place in places]
    low, high = min(places), max(places)
    return [(place - low) / (high - low) if high > low else 0.5 for place in places]


def _marks(key: Key) -> list[str]:
    kinds = key.kinds
    step = -(-len(kinds) // 8)
    return kinds[::step]
