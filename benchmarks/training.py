"""Runs in which the backbone trains, in part or as a whole, beside Lightning scripts and bare loops."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import (
    Line,
    cells_folder,
    lightning_script,
    peer_accuracy,
    process,
    reached,
    require_peers,
    timed,
    tune,
)

LAST_THIRD = "any(part in n for part in ('blocks.4.2', 'blocks.5', 'blocks.6', 'conv_head', 'bn2', 'classifier'))"


def mid() -> Iterator[Line]:
    """The last third and the head for 10 epochs: with the cache, without, and as people do it."""
    require_peers()
    with tempfile.TemporaryDirectory() as folder:
        cache, output = Path(folder) / "cache", Path(folder) / "outputs"
        words = ["+experiment=elpv/mid", "augment=none", "epochs=10"]
        ours, out = timed(tune(*words, output=output), cache)
        found = reached(out, 0.82)
        never, out_never = timed(tune(*words, "cache=never", output=output), cache)
        both = f"{found} and {reached(out_never, 0.82)}"
        yield Line("mid, 10 epochs, empty cache", ours, never, "cache=never", never / ours, "≥ 2.0", both)
        shutil.rmtree(output)
        second, out = timed(tune(*words, "lr=5e-4", output=output), cache)
        yield Line("the same, another rate", second, never, "cache=never", never / second, "", reached(out, 0.8))
        root = cells_folder(Path(folder) / "elpv")
        script = lightning_script(Path(folder), LAST_THIRD)
        theirs = process([sys.executable, str(script), str(root), "10", "1"], cache)
        what = f"Lightning script, same layers, accuracy {peer_accuracy(theirs.out)}"
        yield Line("mid, 10 epochs, empty cache", ours, theirs.seconds, what, theirs.seconds / ours, "≥ 2.7", found)


def full() -> Iterator[Line]:
    """Images/s of one epoch in which everything trains."""
    require_peers()
    with tempfile.TemporaryDirectory() as folder:
        cache, rate = Path(folder) / "cache", Path(folder) / "rate"
        words = ["+experiment=elpv/finetune", "augment=none", "epochs=1", "regularize=none"]
        root = cells_folder(Path(folder) / "elpv")
        script = lightning_script(Path(folder), "True")
        measured: dict[str, float] = {}
        out = ""
        for name, command in (
            ("ours", ["tune", "run", *words, f"output={folder}/outputs", "--json"]),
            ("Lightning script", [str(script), str(root), "1", "1"]),
        ):
            done = process([sys.executable, "-m", "benchmarks.epoch_rate", str(rate), *command], cache)
            measured[name] = float(rate.read_text())
            out = out or done.out
        found = reached(out, 0.6)
        bare = float(process([sys.executable, "-m", "benchmarks.bare_training", *words], cache).out)
        for name, value, asked in (
            ("Lightning script, fp32, NCHW", measured["Lightning script"], "≥ 1.65"),
            ("bare loop, fp32, channels_last", bare, "≥ 0.95"),
        ):
            ours = measured["ours"]
            yield Line("full, one epoch", ours, value, name, ours / value, asked, found, "images/s")
