"""The flags that many verbs have, each with one meaning and one sentence of help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from tune.errors import ConfigError, Problem


def parser_of(verb: str, about: str, *flags: Literal["configs", "allow", "output", "one"]) -> argparse.ArgumentParser:
    """A parser with `--json`, `--quiet` and `--traceback`, and the flags of what the verb deals with.

    Args:
        verb: as typed behind `tune`.
        about: a sentence for `--help`.
        flags: `configs` for a verb that composes a config (`--config-dir`), `allow` for one that builds what a config
            names (`--allow`), `output` for one that finds runs (`--output`), `one` for one that looks at a run before
            it starts, and so has no `-m`.
    """
    parser = argparse.ArgumentParser(f"tune {verb}", description=about)
    if "configs" in flags:
        parser.add_argument("--config-dir", type=Path, help="your own config folder, searched first (./conf)")
    if "allow" in flags:
        parser.add_argument("--allow", action="append", default=[], metavar="MODULE", help="let YAML name this module")
    if "output" in flags:
        parser.add_argument("--output", default="outputs", help="folder of all results (outputs)")
    if "one" in flags:
        parser.add_argument("-m", "--multirun", nargs=0, action=_NoSweep, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="the answer as one JSON object, last line of stdout")
    parser.add_argument("--quiet", action="store_true", help="no word of the work, only the answer and errors")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    return parser


class _NoSweep(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        text = f"{parser.prog} looks at one run: leave it out, and give each key one value. A sweep is tune run -m …"
        raise ConfigError(Problem("-m", text, "command line"))


def refuse_picture(path: Path) -> None:
    """What `--picture` cannot write to, said before the work that is drawn.

    Raises:
        ConfigError: if it is no .png, or in no folder.
    """
    if path.suffix != ".png":
        raise ConfigError(Problem("--picture", f"{path} does not end with .png"))
    if not path.absolute().parent.is_dir():
        raise ConfigError(Problem("--picture", f"there is no folder {path.parent}"))
