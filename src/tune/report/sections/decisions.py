"""What was decided for which rows, at which threshold, and whether the probabilities can be believed."""

from __future__ import annotations

from tune.evaluate.calibration import BINS, doubt, expected_error, is_at_edge, reliability, temperature, tempered
from tune.report.figures import decisions as draw
from tune.report.page.blocks import Block, Columns, Figure, Figures, Table, Text
from tune.report.predicted import Curve, Decided, by_class, curve_of
from tune.report.sections.about import number
from tune.report.told import Told

_CURVES = 8
_LISTED = 60


def classes(told: Told, key: str) -> list[Block]:
    """Confusion matrix, and precision, recall and F1 of each class."""
    if not told.part:
        return []
    decided = told.decided[told.part]
    known = by_class(decided)
    shown = known
    blocks: list[Block] = []
    if len(known) > _LISTED:
        shown = sorted(known, key=lambda each: (each.recall is None, each.recall))[:_LISTED]
        blocks.append(Text(f"Of {len(known)} classes the {_LISTED} with the lowest recall.", quiet=True))
    rows = [
        (each.name, _share(each.precision), _share(each.recall), _share(each.f1), f"{each.rows:,}") for each in shown
    ]
    right = int(decided.confusion.trace())
    about = f"{right:,} of {len(decided.labels):,} {told.part} rows are decided right; {_mixed_up(decided)}"
    svg = draw.confusion(f"{key}confusion", decided.confusion.tolist(), decided.classes)
    figure = Figure(svg, f"Confusion matrix ({told.part}, n = {len(decided.labels):,})", about)
    table = Table(("class", "precision", "recall", "F1", "n"), rows)
    return [Columns([Figures([figure])], [*blocks, table])]


def thresholds(told: Told, key: str) -> list[Block]:
    """ROC and precision–recall, with the point at which the run decides."""
    if not told.part:
        return []
    decided = told.decided[told.part]
    of = [1] if len(decided.classes) == 2 else range(len(decided.classes))
    curves = [curve for k in of if (curve := curve_of(decided, k)) is not None]
    if not curves:
        return []
    said = _operating_point(told)
    if len(curves) > _CURVES:
        curves = sorted(curves, key=lambda curve: curve.area)[:_CURVES]
        said += f" Of {len(decided.classes)} classes the {_CURVES} with the smallest area under the ROC curve."
    series = [curve.name for curve in curves]
    areas = "; ".join(f"{curve.name}: area {number(curve.area)}" for curve in curves)
    averages = "; ".join(f"{curve.name}: average precision {number(curve.average)}" for curve in curves)
    figures = [
        Figure(draw.roc(f"{key}roc", curves), f"ROC ({told.part})", areas, series),
        Figure(draw.precision_recall(f"{key}pr", curves), f"Precision and recall ({told.part})", averages, series),
    ]
    head = ("class", "area under ROC", "average precision", "false positive rate", "recall", "precision")
    return [Text(said), Figures(figures), Table(head, [_point(curve) for curve in curves])]


def calibration(told: Told, key: str) -> list[Block]:
    """Expected calibration error, the reliability diagram, and what one temperature would change."""
    if not told.part:
        return []
    decided, val = told.decided[told.part], told.decided.get("val")
    ece = expected_error(decided.labels, decided.probs)
    before = reliability(decided.labels, decided.probs)
    said = f"Expected calibration error {number(ece)} on {len(decided.labels):,} {told.part} rows, {BINS} bins."
    after, series = [], ["as it is"]
    if val is not None and told.part != "val":
        t = temperature(val.labels, val.probs)
        probs = tempered(decided.probs, t)
        after = reliability(decided.labels, probs)
        sure = "surer than it should be" if t > 1 else "less sure than it could be"
        error = expected_error(decided.labels, probs)
        said += (
            f" A temperature of {t:.3g}, fitted on {len(val.labels):,} validation rows, would make it {number(error)}"
        )
        if is_at_edge(t):
            said += "."
        else:
            said += f": the network is {sure}." if abs(t - 1) > 0.05 else ": the network is as sure as it is right."
        said += f" But {why}." if (why := doubt(t, len(val.labels))) else ""
        series.append(f"with temperature {t:.3g}")
    about = "; ".join(
        f"confidence {each.confidence:.2f}: {each.accuracy:.2f} right of {each.count}" for each in before if each.count
    )
    figure = Figure(draw.reliability(f"{key}reliability", before, after), "Reliability", about, series)
    few = "; with so few rows the bins say little" if len(decided.labels) < 100 else ""
    small = f"On the diagonal, 0.8 means right in 8 of 10 cases; a larger dot is more rows{few}."
    return [Columns([Figures([figure])], [Text(said), Text(small, quiet=True)])]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _mixed_up(decided: Decided) -> str:
    matrix = decided.confusion.copy()
    matrix[range(len(matrix)), range(len(matrix))] = 0
    i, j = divmod(int(matrix.argmax()), len(matrix))
    if not matrix.any():
        return "none is mixed up"
    return f"most often {decided.classes[i]} is taken for {decided.classes[j]} ({int(matrix[i, j]):,} times)"


def _operating_point(told: Told) -> str:
    decided = told.decided[told.part]
    if len(decided.classes) > 2:
        return "Each class against the others. The dots are where the run decides: for the likeliest class."
    threshold = told.record.get("threshold")
    name = decided.classes[1]
    if threshold is None:
        return f"{name} against {decided.classes[0]}. The dot is where the run decides: for the likeliest, at 0.5."
    return f"{name} against {decided.classes[0]}. The dot is where the run decides: for {name} above {threshold:.3g}."


def _point(curve: Curve) -> tuple[str, ...]:
    false_rate, recall, precision = curve.point
    return (curve.name, number(curve.area), number(curve.average), *map(_share, (false_rate, recall, precision)))
