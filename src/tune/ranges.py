"""Ranges of numbers, written once in a signature and read by the checks without importing the module.

def __init__(self, gamma: Annotated[float, Range("[0, inf)")] = 2.0): ...
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_FORM = re.compile(r"^([\[(])\s*(-?[\d.e-]+|-inf)\s*,\s*(-?[\d.e-]+|inf)\s*([\])])$")


@dataclass(frozen=True)
class Range:
    """An interval in the usual notation: "[0, 1)" holds 0 and not 1. NaN is in no range.

    Raises:
        ValueError: if the text is no interval.
    """

    text: str

    def __post_init__(self) -> None:
        if not _FORM.match(self.text):
            raise ValueError(f"not an interval: {self.text!r}")

    def __contains__(self, value: float) -> bool:
        left, low, high, right = _FORM.match(self.text).groups()  # type: ignore[union-attr]  # checked above
        if math.isnan(value) or math.isinf(value):
            return False
        above = value >= float(low) if left == "[" else value > float(low)
        below = value <= float(high) if right == "]" else value < float(high)
        return above and below
