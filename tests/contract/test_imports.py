"""Imports point down: errors, batch, ranges, run_dir < config < data, models, losses < … < train < cli."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tune

SOURCE = Path(tune.__file__).parent
LEVELS = {
    "errors": 0,
    "batch": 0,
    "ranges": 0,
    "run_dir": 0,
    "talk": 0,
    "config": 1,
    "data": 1,
    "models": 1,
    "losses": 1,
    "features": 2,
    "transfer": 3,
    "evaluate": 3,
    "report": 3,
    "train": 4,
    "cli": 5,
    "__main__": 6,
    "__init__": 6,
}
NEVER_EACH_OTHER = {"config", "data", "models", "losses"}
LATE = ("torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "sklearn", "matplotlib", "rich")
TORCH_FREE = ("config", "cli", "report", "errors", "ranges", "run_dir", "talk", "__main__", "__init__")
MODULES = sorted(SOURCE.rglob("*.py"))


def part_of(path):
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def is_type_checking(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path, *, only_at_import):
    """Dotted names that a module imports; `only_at_import` leaves out functions and what is for the type checker."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if only_at_import and (
                isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(child)
            ):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{path}: relative import"
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            yield from walk(child)

    return list(walk(ast.parse(path.read_text())))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_import_points_up(path):
    here = part_of(path)
    assert here in LEVELS, f"{here} has no level yet: see the table in README"
    for name in imports(path, only_at_import=False):
        if not name.startswith("tune."):
            continue
        there = name.split(".")[1]
        if there not in LEVELS or there == here:
            continue
        assert LEVELS[there] <= LEVELS[here], f"{path.name} imports {name}, which stands above it"
        assert not {here, there} <= NEVER_EACH_OTHER, f"{path.name} imports {name}; these never import each other"


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) in TORCH_FREE], ids=lambda path: path.stem)
def test_what_sees_mistakes_early_imports_nothing_heavy(path):
    heavy = [name for name in imports(path, only_at_import=True) if name.split(".")[0] in LATE]
    assert heavy == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_has_at_most_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


def test_no_module_has_a_name_that_says_nothing():
    names = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}
    assert not names & {"utils", "util", "helpers", "common", "misc", "base", "manager"}


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_a_folder_has_about_a_dozen_modules(folder):
    """Folders of options may grow: readers, backbones, heads, losses, transfer methods."""
    if folder.name in ("readers", "backbones", "heads", "losses", "transfer"):
        return
    assert len([path for path in folder.glob("*.py") if path.stem != "__init__"]) <= 14
