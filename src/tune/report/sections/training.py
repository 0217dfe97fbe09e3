"""Metrics, the freeze audit, and the curves over the epochs."""

from __future__ import annotations

from collections import defaultdict
from math import isfinite

from tune.report.figures import curves as draw
from tune.report.page.blocks import Block, Figure, Figures, Table, Text
from tune.report.sections.about import interval, number
from tune.report.told import Told

_LAYERS = 8
"""Layers whose steps are drawn: from input to output, evenly."""


def metrics(told: Told) -> list[Block]:
    """Every metric, by part, with its interval."""
    found, intervals = told.metrics, told.record.get("intervals") or {}
    parts = list(dict.fromkeys(name.partition("/")[0] for name in found))
    names = list(dict.fromkeys(name.partition("/")[2] for name in found))
    rows = []
    for name in names:
        cells = [name]
        for part in parts:
            value, ends = found.get(f"{part}/{name}"), interval(intervals.get(f"{part}/{name}"))
            cells += ["–" if value is None else f"{number(value)} {ends}".strip()]
        rows.append(cells)
    return [Table(("", *parts), rows)] if rows else []


def freeze(told: Told) -> list[Block]:
    """Layers from input to output: what trained, at which rate."""
    layers = told.record.get("freeze")
    if not layers:
        return []
    frozen = sum(each["parameters"] for each in layers if each["trained"] == "frozen")
    trained = sum(each["parameters"] for each in layers) - frozen
    rows = [
        (
            each["layers"],
            f"{each['number']:,}",
            f"{each['parameters']:,}",
            each["trained"],
            f"× {each['lr_factor']:g}" if each["lr_factor"] else "–",
            each["norm"],
        )
        for each in layers
    ]
    head = ("layers, from input to output", "number", "parameters", "trained", "lr", "norms")
    said = f"{frozen:,} parameters were frozen, {trained:,} trained. A run stops where that does not hold."
    return [Text(said), Table(head, rows, words=(0, 3, 5))]


def curves(told: Told, key: str) -> list[Block]:
    """Loss and its terms, metrics, the rate, and how far a step moved each layer."""
    if not told.epochs:
        return []
    if len(told.epochs) == 1:
        return [Text("One epoch, or a head that was fitted at once, has no curve.", quiet=True)]
    best = told.record.get("best_epoch")
    names = list(dict.fromkeys(name for row in told.epochs for name in row))
    terms = [name for name in names if name.startswith("train/")]
    losses = ["train/loss", *[name for name in names if name.endswith("/loss") and name != "train/loss"]]
    losses = [name for name in losses if name in names]
    others = [name for name in terms if name not in losses]
    shares = [name for name in names if name.startswith("val/") and name not in losses]
    errors = [name for name in shares if name.rpartition("/")[2] in ("mae", "rmse")]
    figures = [
        _curves(told, f"{key}loss", "Loss", losses, "loss", best),
        _curves(told, f"{key}terms", "Terms of the loss", others, "value", best),
        _curves(told, f"{key}metrics", "Metrics of validation", [n for n in shares if n not in errors], "value", best),
        _curves(told, f"{key}errors", "Errors, in the unit of what is told", errors, "error", best),
        _curves(told, f"{key}lr", "Learning rate of the head", ["lr"], "lr", None),
        _steps(told, f"{key}steps"),
    ]
    kept = f" The dashed line is epoch {best}, which was kept." if best else ""
    shown = [figure for figure in figures if figure is not None]
    return [Figures(shown), Text(f"{len(told.epochs)} epochs.{kept}", quiet=True)]


def _curves(told: Told, name: str, title: str, columns: list[str], unit: str, best: int | None) -> Figure | None:
    series = {each: [(row["epoch"], row[each]) for row in told.epochs if each in row] for each in columns}
    series = {each: points for each, points in series.items() if any(isfinite(y) for _, y in points)}
    if not series:
        return None
    positive = [y for points in series.values() for _, y in points if isfinite(y)]
    log = unit != "value" and min(positive) > 0 and max(positive) > 50 * min(positive)
    ends = "; ".join(
        f"{each} from {number(points[0][1])} to {number(points[-1][1])}" for each, points in series.items()
    )
    svg = draw.curves(name, series, unit, best=best, log=log)
    return Figure(svg, title, ends, list(series) if len(series) > 1 or unit != "lr" else ())


def _steps(told: Told, name: str) -> Figure | None:
    """The share of itself by which a step changed a layer, from monitor.csv."""
    of_layer: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in told.layers:
        if row["update_ratio"]:
            of_layer[row["layer"]].append((float(row["epoch"]), float(row["update_ratio"])))
    if not of_layer or not any(y > 0 for points in of_layer.values() for _, y in points):
        return None
    every = list(of_layer)
    step = max(1, (len(every) - 1) / (_LAYERS - 1))
    chosen = list(dict.fromkeys(every[round(place * step)] for place in range(min(_LAYERS, len(every)))))
    series = {layer: of_layer[layer] for layer in chosen}
    ends = "; ".join(f"{layer} {points[-1][1]:.1e}" for layer, points in series.items())
    more = f", {len(chosen)} of {len(every)} layers" if len(chosen) < len(every) else ""
    about = f"share of itself by which a step changes a layer, in the last epoch: {ends}"
    return Figure(draw.curves(name, series, "update ratio", log=True), f"Size of a step{more}", about, chosen)
