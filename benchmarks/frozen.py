"""Runs with a frozen part on photographs of solar cells: what the cache saves, beside what people do today."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Line, accuracy, imports, timed, tune


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
            _reached(out, 0.81),
        )
        ours, out = timed(tune("+experiment=quickstart", "lr=3e-3", output=output), cache, times=3)
        yield Line(
            "the same, another rate, full cache",
            ours,
            importing,
            "imports",
            ours - importing,
            "≤ + 4 s",
            _reached(out, 0.81),
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
            _reached(out, 0.8),
        )


def mid() -> Iterator[Line]:
    """The last third and the head for 10 epochs, with the cache and without."""
    with tempfile.TemporaryDirectory() as folder:
        cache, output = Path(folder) / "cache", Path(folder) / "outputs"
        words = ["+experiment=elpv/mid", "augment=none", "epochs=10"]
        ours, out = timed(tune(*words, output=output), cache)
        never, out_never = timed(tune(*words, "cache=never", output=output), cache)
        reached = f"{_reached(out, 0.82)} and {_reached(out_never, 0.82)}"
        yield Line("mid, 10 epochs, empty cache", ours, never, "cache=never", never / ours, "≥ 2.0", reached)
        shutil.rmtree(output)
        second, out = timed(tune(*words, "lr=3e-4", output=output), cache)
        yield Line("the same, another rate", second, never, "cache=never", never / second, "", _reached(out, 0.8))


def _reached(out: str, least: float) -> str:
    """Test accuracy; speed is never bought with it."""
    value = accuracy(out)
    if value < least:
        raise RuntimeError(f"test accuracy {value:.3f}, expected at least {least}")
    return f"{value:.3f}"
