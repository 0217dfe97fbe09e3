"""`tune report`: a page about runs and sweeps, from their folders alone. Torch is not imported."""

from __future__ import annotations

import json
from pathlib import Path

from tune.cli.arguments import parser_of
from tune.errors import ConfigError, Problem
from tune.report.runs.collect import find_latest
from tune.run_dir import find_run, shown


def report(words: list[str]) -> int:
    """`tune report RUN|SWEEP… [--out FILE.html]`. Returns the exit code."""
    parser = parser_of("report", "Write a page about runs and sweeps, and the same as Markdown.", "output")
    parser.add_argument("runs", nargs="+", metavar="RUN|SWEEP", help="folder, start of an id, SWEEP#NUMBER, or latest")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="by default report.html in the folder of the run")
    parser.add_argument("--open", choices=("yes", "no"), default="no", help="show it in the browser (no)")
    asked = parser.parse_args(words)
    folders = list(dict.fromkeys(find(name, asked.output) for name in asked.runs))
    path = asked.out or (folders[0] if len(folders) == 1 else Path()) / "report.html"
    if path.suffix != ".html":
        raise ConfigError(Problem("--out", f"{path} must end in .html; the twin in Markdown stands beside it"))
    if not path.parent.is_dir():
        raise ConfigError(Problem("--out", f"there is no folder {path.parent}"))
    from tune.report.write import write_report

    page, twin = write_report(folders, path)
    print(f"page      {shown(path)}")
    print(f"markdown  {shown(twin)}")
    if asked.open == "yes":
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    if asked.json:
        parts = [
            {"title": part.title, "status": part.status, "sections": [s.title for s in part.sections if s.blocks]}
            for part in page.parts
        ]
        found = {"folders": [str(folder) for folder in folders], "page": str(path), "markdown": str(twin)}
        print(json.dumps({"status": "done", **found, "parts": parts}))
    return 0


def find(name: str, output: str) -> Path:
    """The folder of a run or of a sweep.

    Raises:
        ConfigError: if there is none, or more than one.
    """
    if (Path(name) / "sweep.json").is_file():
        return Path(name)
    begun = name.removeprefix("sweep-")
    if name == "latest" and (folder := find_latest(Path(output))):
        return folder
    sweeps = [path.parent for path in sorted(Path(output).glob("*/sweep-*/sweep.json"))]
    found = [path for path in sweeps if begun and path.name.removeprefix("sweep-").startswith(begun)]
    try:
        found.append(find_run(name, output))
    except ConfigError:
        if not found:
            raise
    if len(found) > 1:
        raise ConfigError(Problem(name, f"is several: {', '.join(shown(path) for path in found[:5])}"))
    return found[0]
