"""Curves over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from tune.report.figures.canvas import COLORS, QUIET, by_logarithm, canvas, within_bounds


def curves(
    name: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    unit: str,
    *,
    best: float | None = None,
    log: bool = False,
) -> str:
    """Lines of (epoch, value), in the order of the colours.

    Args:
        name: of the drawing.
        series: name → points; those that are not finite leave a gap.
        unit: of the values.
        best: epoch that was kept.
        log: whether values are drawn by their logarithm.
    """
    from matplotlib.ticker import MaxNLocator

    with canvas(name) as drawn:
        axes = drawn.axes
        for number, points in enumerate(series.values()):
            shown = [(x, y if isfinite(y) and (y > 0 or not log) else float("nan")) for x, y in points]
            marker = "o" if len(shown) < 16 else ""
            axes.plot(*zip(*shown, strict=True), color=COLORS[number % len(COLORS)], marker=marker, markersize=3)
        if best is not None:
            axes.axvline(best, color=QUIET, linestyle=(0, (3, 3)), linewidth=1)
        if log:
            known = [y for points in series.values() for _, y in points if isfinite(y) and y > 0]
            by_logarithm(axes, "y", min(known), max(known))
        within_bounds(axes, series)
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    return drawn.svg
