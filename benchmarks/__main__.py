"""`python -m benchmarks [NAME …]` runs the benchmarks, all or those named, and prints one table."""

from __future__ import annotations

import sys

from benchmarks import frozen, growth, predict, sweeps, training
from benchmarks.measure import HEADER

ALL = {
    "sweep": sweeps.sweep,
    "deep": frozen.deep,
    "heads": sweeps.heads,
    "mid": training.mid,
    "full": training.full,
    "growth": growth.growth,
    "inception": growth.inception,
    "predict": predict.predict,
}


def main(names: list[str]) -> None:
    """Print a line as soon as it is there."""
    print(HEADER, flush=True)
    for name in names or ALL:
        for line in ALL[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
