"""What `tune lr-find` saw, as text and as a picture: the rate by its logarithm against the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tune.report.figures.png import png

if TYPE_CHECKING:
    from tune.train.probe.rate import Found

HEIGHT = 12  # lines


def draw(found: Found, width: int) -> list[str]:
    """Lines of text of at most `width` characters: `·` the range test, `o` rates that were tried, `▲` the suggestion.

    Losses above what the training began with are drawn at the top.
    """
    curve, tries = _points(found)
    points = [(*point, "·") for point in curve] + [(*point, "o") for point in tries]
    low, high = _range([loss for _, loss, _ in points], _first(found))
    left, right = (math.log(pick(rate for rate, _, _ in points)) for pick in (min, max))
    labels = [f"{high:.3g}", f"{low:.3g}"]
    margin = max(map(len, labels))
    columns = max(16, width - margin - 2)

    def column(rate: float) -> int:
        return round((math.log(rate) - left) / max(right - left, 1e-9) * (columns - 1))

    grid = [[" "] * columns for _ in range(HEIGHT)]
    for rate, loss, mark in points:
        share = (high - min(loss, high)) / max(high - low, 1e-9)
        grid[round(share * (HEIGHT - 1))][column(rate)] = mark
    lines = []
    for number, row in enumerate(grid):
        label = labels[0] if number == 0 else labels[1] if number == HEIGHT - 1 else ""
        lines.append(f"{label:>{margin}} ┤{''.join(row)}".rstrip())
    lines.append(f"{'loss':>{margin}} └{'─' * columns}"[: margin + 2 + columns])
    ends = f"{math.exp(left):.0e}", f"{math.exp(right):.0e}"
    lines.append(f"{'':>{margin}}  {ends[0]}{ends[1]:>{columns - len(ends[0])}}")
    place = min(max(0, column(found.suggestion.lr)), columns - 1)
    told = f"lr {found.suggestion.lr:g}"
    after = place + 2 + len(told) <= columns
    mark = f"{' ' * place}▲ {told}" if after else f"{' ' * max(0, place - len(told) - 1)}{told} ▲"
    return [*lines, f"{'':>{margin}}  {mark}"]


def picture(found: Found) -> bytes:
    """The same as PNG."""
    from matplotlib.figure import Figure  # 0.4 s that nobody else needs to pay

    curve, tries = _points(found)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    if curve:
        axes.plot(*zip(*curve, strict=True), color="0.5", label="while the rate grows, smoothed")
    if tries:
        label = f"after {found.tries.steps} steps at this rate" if found.tries is not None else ""
        axes.plot(*zip(*tries, strict=True), "o", color="tab:blue", label=label)
    axes.axvline(found.suggestion.lr, color="tab:green", linestyle="--", label=f"lr {found.suggestion.lr:g}")
    low, high = _range([loss for _, loss in [*curve, *tries]], _first(found))
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate of the head")
    axes.set_ylabel("training loss")
    return png(figure)


def _points(found: Found) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(rate, loss) of the curve and of the tries; those that were not finite any more have none."""
    curve = list(zip(found.curve.rates, found.curve.losses, strict=True)) if found.curve is not None else []
    tries = sorted(found.tries.losses.items()) if found.tries is not None else []
    return curve, [point for point in tries if math.isfinite(point[1])]


def _first(found: Found) -> float:
    """The loss before anything was learned."""
    return found.tries.untrained if found.tries is not None else found.curve.losses[0] if found.curve else 0.0


def _range(losses: list[float], first: float) -> tuple[float, float]:
    """Losses that are worth a place: from the lowest to a little above what it began with."""
    low = min(losses)
    return low, max(first + (first - low) / 4, low + 1e-9)
