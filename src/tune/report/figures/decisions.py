"""What was decided for which rows: confusion matrix, ROC, precision and recall, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune.report.figures.canvas import COLORS, QUIET, canvas, labels

if TYPE_CHECKING:
    from tune.evaluate.calibration import Bin
    from tune.report.predicted import Curve

_NAMED = 24  # classes that have room for their names
_COUNTED = 16  # and for numbers


def confusion(name: str, matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Rows by class (down) and by what was decided (across), each line shaded by its shares.

    Args:
        name: of the drawing.
        matrix: (K, K) counts.
        classes: K names.
    """
    from matplotlib.patches import Rectangle

    number = len(classes)
    side = min(3.0 + 0.2 * number, 6.2)
    with canvas(name, side + 0.7, side) as drawn:
        axes = drawn.axes
        for i, line in enumerate(matrix):
            total = max(sum(line), 1)
            for j, count in enumerate(line):
                if count:
                    share = count / total
                    color = COLORS[0] if i == j else COLORS[1]
                    axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, alpha=0.12 + 0.6 * share))
                if number <= _COUNTED:
                    axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=9.5 if number <= 8 else 7.5)
        axes.set(xlim=(-0.5, number - 0.5), ylim=(number - 0.5, -0.5), aspect="equal")
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("decided for")
        axes.set_ylabel("class")
        if number <= _NAMED:
            names = labels(classes, 16)
            is_long = max(map(len, names)) * number > 38
            axes.set_xticks(range(number), names, rotation=90 if is_long else 0)
            axes.set_yticks(range(number), names)
        axes.tick_params(length=0)
    return drawn.svg


def roc(name: str, curves: Sequence[Curve]) -> str:
    """True against false positive rate, with the point at which the run decides."""
    with canvas(name) as drawn:
        axes = drawn.axes
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
        for color, each in zip(COLORS, curves, strict=False):
            axes.plot(each.false_rate, each.recall, color=color)
            axes.plot(each.point[0], each.point[1], "o", color=color, markersize=6.5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
    return drawn.svg


def precision_recall(name: str, curves: Sequence[Curve]) -> str:
    """Precision against recall, with the point at which the run decides, and how frequent each class is."""
    with canvas(name) as drawn:
        axes = drawn.axes
        for color, each in zip(COLORS, curves, strict=False):
            axes.axhline(each.share, color=color, linewidth=0.8, linestyle=(0, (2, 3)))
            axes.plot(each.recall[1:], each.precision[1:], color=color)
            if each.point[2] is not None:
                axes.plot(each.point[1], each.point[2], "o", color=color, markersize=6.5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
    return drawn.svg


def reliability(name: str, before: Sequence[Bin], after: Sequence[Bin]) -> str:
    """Share of right rows against confidence, as it is and with the temperature; larger dots are more rows.

    Args:
        name: of the drawing.
        before: bins of equal width.
        after: the same with the temperature; empty for none.
    """
    with canvas(name) as drawn:
        axes = drawn.axes
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (3, 3)))
        for color, bins in ((COLORS[0], before), (COLORS[1], after)):
            filled = [each for each in bins if each.count]
            if filled:
                most = max(each.count for each in filled)
                x, y = [each.confidence for each in filled], [each.accuracy for each in filled]
                axes.vlines(x, x, y, color=color, linewidth=1, alpha=0.5)
                sizes = [9 + 110 * each.count / most for each in filled]
                axes.scatter(x, y, s=sizes, color=color, alpha=0.85, linewidths=0)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.04))
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
    return drawn.svg
