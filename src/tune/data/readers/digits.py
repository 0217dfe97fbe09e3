from __future__ import annotations

import gzip
from typing import final

import numpy as np

from tune.data.readers.interface import Reader, packaged_file
from tune.data.table import Table


@final
class Digits(Reader):
    """1,797 handwritten digits, 8×8 grey, that come with scikit-learn; no download.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI), its test part. Values 0-16 are
    stretched to 0-255.
    """

    def read(self) -> Table:
        """Rows in the order of the file."""
        file = packaged_file("sklearn", "datasets/data/digits.csv.gz", "scikit-learn", "digits")
        with gzip.open(file, "rt") as lines:
            values = np.array([line.rstrip("\n").split(",") for line in lines], dtype=np.float32)
        pixels = np.rint(values[:, :-1] * (255 / 16)).astype(np.uint8)
        return Table(
            names=[f"row {i}" for i in range(len(values))],
            labels=values[:, -1].astype(np.int64),
            classes=[str(digit) for digit in range(10)],
            images=pixels.reshape(-1, 8, 8),
        )
