"""The flags that many verbs have, each with one meaning and one sentence of help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal


def parser_of(verb: str, about: str, *flags: Literal["configs", "allow", "output"]) -> argparse.ArgumentParser:
    """A parser with `--json`, `--quiet` and `--traceback`, and the flags of what the verb deals with.

    Args:
        verb: as typed behind `tune`.
        about: a sentence for `--help`.
        flags: `configs` for a verb that composes a config (`--config-dir`), `allow` for one that builds what a config
            names (`--allow`), `output` for one that finds runs (`--output`).
    """
    parser = argparse.ArgumentParser(f"tune {verb}", description=about)
    if "configs" in flags:
        parser.add_argument("--config-dir", type=Path, help="your own config folder, searched first (./conf)")
    if "allow" in flags:
        parser.add_argument("--allow", action="append", default=[], metavar="MODULE", help="let YAML name this module")
    if "output" in flags:
        parser.add_argument("--output", default="outputs", help="folder of all results (outputs)")
    parser.add_argument("--json", action="store_true", help="the answer as one JSON object, last line of stdout")
    parser.add_argument("--quiet", action="store_true", help="no word of the work, only the answer and errors")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    return parser
