"""`python -m benchmarks [NAME …]` runs the benchmarks, all or those named, and prints one table."""

from __future__ import annotations

import sys

from benchmarks import frozen
from benchmarks.measure import HEADER

ALL = {"deep": frozen.deep, "mid": frozen.mid}


def main(names: list[str]) -> None:
    """Print a line as soon as it is there."""
    print(HEADER, flush=True)
    for name in names or ALL:
        for line in ALL[name]():
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
