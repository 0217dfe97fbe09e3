"""The one style of all drawings, and how they become SVG that stands inside a page.

What matplotlib writes is read again as XML: styles become attributes, which a page without inline styles may have;
names of elements get the drawing's own, so that several stand in one page; black becomes the colour of the page's text,
so that a dark page has light lines. Text stays text: it can be searched, and is much smaller than its outlines.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as Tree
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from tune.report.page.blocks import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#3f7fdc", "#e07b2c", "#2fa06a", "#9a68d6", "#d94f6c", "#1f9fae", "#b1861a", "#8791a0")
"""Of the series of a drawing; legible on white and on black, and the same as in the page's style."""
QUIET = "#8791a0"
SHADES = ("#dbe7fb", "#3f7fdc", "#15396f")
"""From little to much."""
_SHARES = {
    *("accuracy", "balanced_accuracy", "exact_match", "f1", "f1_macro", "f1_micro", "auroc"),
    *("recall_at_1", "recall_at_5", "map", "attack_success"),
}
"""Metrics from 0 to 1."""
WIDTH, HEIGHT = 4.9, 3.1  # inches; a point is a pixel where the page is as wide as a phone

_INK = "#000000"
HALO = "#000001"
"""Ink of text that lines run through."""
_SVG, _LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $a$
    "font.size": 9.5,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": QUIET,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.7,
    "lines.markersize": 4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


class Canvas:
    """Axes to draw on, and after the `with` the drawing as SVG in `svg`."""

    axes: Axes
    svg: str


@contextmanager
def canvas(name: str, width: float = WIDTH, height: float = HEIGHT) -> Iterator[Any]:
    """Axes of a drawing.

    Args:
        name: of the drawing, in letters, digits and hyphens, unlike that of any other in the page.
        width: inches.
        height: inches.
    """
    from matplotlib import rc_context  # 0.35 s that nobody else needs to pay
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's fonts draw the text, not matplotlib's
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        drawn = Canvas()
        drawn.axes = figure.subplots()
        yield drawn
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
        drawn.svg = inline(written.getvalue(), name)


def by_logarithm(axes: Axes, side: Literal["x", "y"], low: float, high: float) -> None:
    """Draw an axis by its logarithm, with marks as 0.001 or 1e-05.

    Args:
        axes: of the drawing.
        side: which of both.
        low: smallest value on it.
        high: largest; below two decades there are marks at 2 and 5 too.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{side}scale": "log"})
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def within_bounds(axes: Axes, metrics: Iterable[str]) -> None:
    """End the upright axis where its metrics end: a share at 0 and 1, r2 at 1. Marks on the end are drawn whole.

    Args:
        axes: of the drawing, with everything on it.
        metrics: names of all that is drawn.
    """
    names = {name.rpartition("/")[2].removeprefix("tta_").partition("@")[0] for name in metrics}
    low, high = axes.get_ylim()
    if names <= _SHARES:
        low = max(low, 0.0)
    if names <= _SHARES | {"r2"}:
        axes.set_ylim(low, min(high, 1.0))
        for mark in (*axes.lines, *axes.collections):
            mark.set_clip_on(False)


def label(text: str, longest: int = 24) -> str:
    """A name that may be anything, as short as a drawing has room for."""
    text = " ".join(clean(text).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def labels(names: Sequence[str], longest: int = 24) -> list[str]:
    """`label` of each."""
    return [label(name, longest) for name in names]


def inline(written: bytes, name: str) -> str:
    """An SVG file of matplotlib as an element of a page.

    Args:
        written: the file.
        name: that all names in it begin with.
    """
    Tree.register_namespace("", _SVG)
    Tree.register_namespace("xlink", _LINK)
    root = Tree.fromstring(written)
    used = set(re.findall(rb"#([\w-]+)", written))
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
        _plain(parent, name, used)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt", "aria-hidden": "true"}
    text = Tree.tostring(root, encoding="unicode")
    return re.sub(r">\s+<", "><", re.sub(r"\d+\.\d{3,}", _rounded, text) if "<text" not in text else _round_paths(text))


def _plain(element: Tree.Element, name: str, used: set[bytes]) -> None:
    """Styles as attributes, own names, ink in the colour of the page. In place."""
    given = element.attrib
    for part in given.pop("style", "").split(";"):
        key, _, value = (each.strip() for each in part.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            given["font-size"] = size[1] if size else "10"
        elif key and not key.startswith("font-f"):
            given[key] = value
    own = given.pop("id", "")
    if own.encode() in used:
        given["id"] = f"{name}-{own}"
    for key, value in list(given.items()):
        if value.startswith("#") and key.endswith("href"):
            given[key] = f"#{name}-{value[1:]}"
        elif value.startswith("url(#"):
            given[key] = f"url(#{name}-{value[5:]}"
        elif value in (_INK, HALO) and key in ("fill", "stroke"):
            given[key] = "currentColor"
            if value == HALO:
                given["class"] = "halo"
    if element.tag == f"{{{_SVG}}}text" and "fill" not in given:
        given["fill"] = "currentColor"


def _round_paths(text: str) -> str:
    """Two decimals in attributes of places; a third is less than what can be seen."""
    return re.sub(
        r' (?:d|x|y|transform|points)="[^"]*"', lambda found: re.sub(r"\d+\.\d{3,}", _rounded, found[0]), text
    )


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
