"""The page of a run: also of one that did not finish, of a chain and of an ensemble, as far as their files go."""

from __future__ import annotations

from tune.report.page.blocks import Part, Section
from tune.report.sections.about import head_numbers, repeat, verdicts, versions, what_was_run
from tune.report.sections.decisions import calibration, classes, thresholds
from tune.report.sections.pictures import mistakes, samples
from tune.report.sections.training import curves, freeze, metrics
from tune.report.told import Told


def part_of(told: Told, key: str) -> Part:
    """Everything about a run.

    Args:
        told: its folder.
        key: letters and digits that no other part of the page has, for the names of its drawings.
    """
    record = told.record
    sections = [
        Section("Result", head_numbers(told)),
        Section("What the curves say", verdicts(told)),
        Section("What was run", what_was_run(told)),
        Section("How to repeat it", repeat(told)),
        Section("Metrics", metrics(told)),
        Section("What trained, what was frozen", freeze(told)),
        Section("Training", curves(told, key)),
        *(
            Section(f"Training: {stage.run_dir.name}", [*freeze(stage), *curves(stage, f"{key}g{number}")])
            for number, stage in enumerate(told.stages)
        ),
        Section("Classes", classes(told, key)),
        Section("Thresholds", thresholds(told, key)),
        Section("Calibration", calibration(told, key)),
        Section("The surest mistakes", mistakes(told)),
        Section("What the network sees", samples(told)),
        Section("Versions", versions(told)),
    ]
    cause = f"   {record['cause']}" if record.get("cause") else ""
    return Part(f"{record['name']} {told.name}", told.status, f"{told.run_dir.name}{cause}", sections)
