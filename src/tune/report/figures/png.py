"""Drawings that stand as a file of their own."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """A figure as PNG, with a legend."""
    for axes in figure.axes:
        axes.legend(loc="best", fontsize="small")
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=120)
    return target.getvalue()
