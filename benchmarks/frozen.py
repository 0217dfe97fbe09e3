"""Runs with a frozen part on photographs of solar cells: what the cache saves, beside what people do today."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Line, imports, reached, timed, tune


def deep() -> Iterator[Line]:
    """One head for 10 epochs, against one bare forward pass; then another rate on what is kept."""
    with tempfile.TemporaryDirectory() as folder:
        cache, output = Path(folder) / "cache", Path(folder) / "outputs"
        importing = imports(cache)
        bare = float(timed([sys.executable, "-m", "benchmarks.bare_forward"], cache)[1])
        ours, out = timed(tune("+experiment=quickstart", output=output), cache)
        least = importing + bare
        yield Line(
            "deep, 10 epochs, empty cache",
            ours,
            least,
            "imports + bare forward",
            ours / least,
            "≤ 1.4",
            reached(out, 0.81),
        )
        ours, out = timed(tune("+experiment=quickstart", "lr=3e-3", output=output), cache, times=3)
        yield Line(
            "the same, another rate, full cache",
            ours,
            importing,
            "imports",
            ours - importing,
            "≤ + 4 s",
            reached(out, 0.81),
        )
        words = ["+experiment=quickstart", "augment=mild"]
        kept, out = timed(tune(*words, output=output), cache)
        again, out = timed(tune(*words, "lr=3e-3", output=output), cache)
        yield Line(
            "deep, augment=mild: second rate",
            again,
            kept,
            "the first rate",
            kept / again,
            f"≤ {importing + 5:.1f} s",
            reached(out, 0.8),
        )
