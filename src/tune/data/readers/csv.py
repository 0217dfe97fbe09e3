from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from tune.data.paths import existing
from tune.data.readers.interface import Reader
from tune.data.table import Table, order_classes
from tune.errors import DataError, Problem

_PARTS = {"": "", "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_OPTIONAL = ("split", "group", "weight")


@final
class Csv(Reader):
    """Images listed in a CSV file with a header line, one image per line.

    Columns that are not named below can be used by ``split.stratify`` and ``split.group``. The columns split, group and
    weight are used when the file has them; under another name they must be named here.

    Args:
        file: the CSV file, UTF-8; relative to where the command runs.
        root: folder that relative paths start from; the CSV file's own when null.
        path_column: column of the images' paths.
        label_column: column of the class names.
        split_column: column with train, val (also valid, validation), test or nothing (= to be split); null for none.
        group_column: column whose equal values stay in one part; null for none.
        weight_column: column with the importance of each row in the loss, >= 0; null for none.
        classes: all class names in the order of their ids (with two, the second is the positive one); sorted when null.
        delimiter: the sign between two columns.

    Raises:
        DataError: with every line that cannot be used: no path, missing or repeated file, no label, unknown split, bad
            weight.
    """

    def __init__(
        self,
        file: str | None = None,
        root: str | None = None,
        path_column: str = "path",
        label_column: str = "label",
        split_column: str | None = "split",
        group_column: str | None = "group",
        weight_column: str | None = "weight",
        classes: list[str] | None = None,
        delimiter: str = ",",
    ):
        self.file = file
        self.root = root
        self.columns = {"path": path_column, "label": label_column}
        self.optional = {"split": split_column, "group": group_column, "weight": weight_column}
        self.classes = classes
        self.delimiter = delimiter

    def read(self) -> Table:
        """Rows in the order of the lines."""
        file = existing("data.file", self.file, "file")
        root = file.parent if self.root is None else existing("data.root", self.root, "folder")
        header, lines = self._lines(file)
        used = self._used_columns(file, header)
        rows = _Rows(file, root)
        for number, line in lines:
            rows.add(number, dict(zip(header, line, strict=False)), used, len(header) - len(line))
        if not rows.labels and not rows.problems:
            rows.problems.append(Problem("data.file", "has a header and no row", str(file)))
        classes = order_classes(self.classes, set(rows.labels) - {""}, rows.problems)
        if rows.problems:
            raise DataError(*rows.problems)
        ids = {name: i for i, name in enumerate(classes)}
        further = [name for name in header if name not in used.values()]
        return Table(
            names=rows.names,
            labels=np.array([ids[label] for label in rows.labels], dtype=np.int64),
            classes=classes,
            images=rows.paths,
            split=np.array(rows.splits) if any(rows.splits) else None,
            group=np.array(rows.groups) if "group" in used else None,
            weights=np.array(rows.weights, dtype=np.float32) if "weight" in used else None,
            columns={name: np.array([cells[name] for cells in rows.cells]) for name in further},
        )

    def _lines(self, file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
        if len(self.delimiter) != 1:
            raise DataError(Problem("data.delimiter", f"must be one sign, not {self.delimiter!r}"))
        try:
            with file.open(encoding="utf-8-sig", newline="") as text:
                reader = csv.reader(text, delimiter=self.delimiter, skipinitialspace=True)
                lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(line)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(Problem("data.file", f"is no CSV text in UTF-8: {error}", str(file))) from error
        if not lines:
            raise DataError(Problem("data.file", "is empty", str(file)))
        return lines[0][1], lines[1:]

    def _used_columns(self, file: Path, header: list[str]) -> dict[str, str]:
        used, problems = {}, []
        for key, name in {**self.columns, **self.optional}.items():
            if name in header:
                used[key] = name
            elif name is not None and (key not in _OPTIONAL or name != key):
                text = f"{file.name} has no column {name}. It has: {', '.join(header)}"
                problems.append(Problem(f"data.{key}_column", text, f"{file}:1"))
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            problems.append(Problem("data.file", f"columns of the same name: {', '.join(repeated)}", f"{file}:1"))
        if problems:
            raise DataError(*problems)
        return used


@dataclass
class _Rows:
    """Rows so far, and what is wrong so far."""

    file: Path
    root: Path
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    cells: list[dict[str, str]] = field(default_factory=list)
    first_line: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, line: int, cells: dict[str, str], used: dict[str, str], missing: int) -> None:
        def problem(text: str) -> None:
            self.problems.append(Problem("data.file", text, f"{self.file}:{line}"))

        if missing:
            problem(f"{abs(missing)} {'cells are missing' if missing > 0 else 'cells too many'}")
            return
        name, label = cells[used["path"]], cells[used["label"]]
        path = self.root / Path(name).expanduser()
        if not name:
            problem("no path")
        elif path in self.first_line:
            problem(f"{name} stands in line {self.first_line[path]} already")
        elif not path.is_file():
            problem(f"no file {path}")
        self.first_line.setdefault(path, line)
        if not label:
            problem(f"no label for {name}")
        part = cells[used["split"]].lower() if "split" in used else ""
        if part not in _PARTS:
            problem(f"split is {part!r}, not train, val, test or nothing")
        weight = _weight(cells[used["weight"]]) if "weight" in used else 1.0
        if weight is None:
            problem(f"weight is {cells[used['weight']]!r}, not a number >= 0")
        self.names.append(name)
        self.labels.append(label)
        self.paths.append(path)
        self.splits.append(_PARTS.get(part, ""))
        self.groups.append(cells[used["group"]] if "group" in used else "")
        self.weights.append(weight or 0.0)
        self.cells.append(cells)


def _weight(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
