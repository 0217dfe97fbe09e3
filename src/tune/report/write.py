"""`report.html` and `report.md` of runs and sweeps, from their folders alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tune.report.page import html, markdown
from tune.report.page.blocks import Page
from tune.report.runs.collect import Sweep, read_sweep
from tune.report.sections import beside, run, sweep
from tune.report.told import Told
from tune.run_dir import atomic_write


def page_of(folders: Sequence[Path]) -> Page:
    """One page about some runs and sweeps; several runs are also put side by side.

    Args:
        folders: of runs (with run.json) and sweeps (with sweep.json).
    """
    told = [read_sweep(path) if (path / "sweep.json").is_file() else Told(path) for path in folders]
    parts = [
        sweep.part_of(each, f"f{number}") if isinstance(each, Sweep) else run.part_of(each, f"f{number}")
        for number, each in enumerate(told)
    ]
    runs = [each for each in told if isinstance(each, Told)]
    if len(runs) > 1:
        parts.insert(0, beside.part_of(runs))
    return Page(", ".join(part.title for part in parts), parts)


def write_report(folders: Sequence[Path], path: Path) -> tuple[Page, Path]:
    """Write the page and its twin in Markdown beside it.

    Args:
        folders: as for `page_of`.
        path: of the page.

    Returns:
        What was written, and the twin's path.
    """
    page, twin = page_of(folders), path.with_suffix(".md")
    atomic_write(path, html.write(page))
    atomic_write(twin, markdown.write(page, path.parent.absolute()))
    return page, twin
