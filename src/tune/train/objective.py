"""Which way is better. Torch-free."""

from __future__ import annotations


def is_maximized(metric: str) -> bool:
    """Whether more of a metric is better; of everything that we measure, only losses and errors are better small."""
    return not metric.endswith(("loss", "/mae", "/rmse"))


def is_better(metric: str, value: float, best: float) -> bool:
    """Whether `value` beats `best`; a tie does not, and NaN beats nothing but is beaten by every number."""
    if value != value:
        return False
    if best != best:
        return True
    return value > best if is_maximized(metric) else value < best
