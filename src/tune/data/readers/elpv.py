from __future__ import annotations

from typing import Annotated, Literal, final

import numpy as np

from tune.data.readers.interface import Reader, packaged_file
from tune.data.table import Table
from tune.errors import ConfigError
from tune.ranges import Range

_FOUR_CLASSES = ["functional", "rather_functional", "rather_defective", "defective"]  # p = 0, 1/3, 2/3, 1


@final
class Elpv(Reader):
    """2,624 electroluminescence photographs of solar cells, 300×300 grey, each with a probability p of a defect.

    p is 0, 1/3, 2/3 or 1. Rows run in the order of the 44 modules that the cells were cut from, so cells of one module
    fall into several parts unless ``split.blocks`` keeps stretches of rows together. Columns: ``p``, ``type``.

    Source: Buerhop-Lutz et al. 2018, "A Benchmark for Visual Identification of Defective Solar Cells in
    Electroluminescence Imagery"; package elpv-dataset (CC-BY-NC-SA).

    Args:
        task: ``defect`` (functional, defective; the latter is the positive class), ``four_class`` (the value of p), or
            ``cell_type`` (mono, poly).
        threshold: a cell is defective when p is above it; for ``task=defect`` only.
        types: cells to use: of monocrystalline modules, polycrystalline modules, or all.

    Raises:
        ConfigError: if a threshold is given that has no effect, or one type of cell is left to tell types apart.
    """

    def __init__(
        self,
        task: Literal["defect", "four_class", "cell_type"] = "defect",
        threshold: Annotated[float, Range("[0, 1)")] = 0.5,
        types: Literal["mono", "poly", "all"] = "all",
    ):
        if task != "defect" and threshold != 0.5:
            raise ConfigError(f"data.threshold: has no effect with task={task}; it belongs to task=defect")
        if task == "cell_type" and types != "all":
            raise ConfigError(f"data.types: {types} leaves one class only with task=cell_type; use all")
        self.task = task
        self.threshold = threshold
        self.types = types

    def read(self) -> Table:
        """Rows in the order of ``labels.csv``."""
        labels_file = packaged_file("elpv_dataset", "data/labels.csv", "elpv-dataset", "quickstart")
        rows = [line.split() for line in labels_file.read_text().splitlines() if line.strip()]
        rows = [row for row in rows if self.types in ("all", row[2])]
        p = np.array([float(row[1]) for row in rows])
        types = np.array([row[2] for row in rows])
        labels, classes, about = self._label(p, types)
        return Table(
            names=[row[0] for row in rows],
            labels=labels.astype(np.int64),
            classes=classes,
            images=[labels_file.parent / row[0] for row in rows],
            columns={"p": p, "type": types},
            about=about if self.types == "all" else f"{about}, {self.types} cells",
        )

    def _label(self, p: np.ndarray, types: np.ndarray) -> tuple[np.ndarray, list[str], str]:
        if self.task == "four_class":
            return np.rint(p * 3), _FOUR_CLASSES, "four classes by p = 0, 1/3, 2/3, 1"
        if self.task == "cell_type":
            return types == "poly", ["mono", "poly"], "type of cell"
        return p > self.threshold, ["functional", "defective"], f"defective when p > {self.threshold:g}"
