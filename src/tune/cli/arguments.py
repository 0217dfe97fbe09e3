"""The flags that many verbs have, each with one meaning and one sentence of help."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn

from tune.config.habits import HABITS, nearest
from tune.config.schema import Run
from tune.errors import ConfigError, Problem

_WHERE = "command line"


def parser_of(verb: str, about: str, *flags: Literal["configs", "allow", "output", "one"]) -> argparse.ArgumentParser:
    """A parser with `--json`, `--quiet` and `--traceback`, and the flags of what the verb deals with.

    Args:
        verb: as typed behind `tune`.
        about: a sentence for `--help`.
        flags: `configs` for a verb that composes a config (`--config-dir`), `allow` for one that builds what a config
            names (`--allow`), `output` for one that finds runs (`--output`), `one` for one that looks at a run before
            it starts, and so has no `-m`.
    """
    parser = _Parser(f"tune {verb}", description=about)
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


def whole(least: int) -> Callable[[str], int]:
    """The type of a flag that takes whole numbers from `least` on."""

    def convert(text: str) -> int:
        if not text.isdecimal():
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return int(text)

    return convert


def positive_seconds(text: str) -> float:
    """The type of a flag that takes a span of time."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


class _Parser(argparse.ArgumentParser):
    """One that says what is wrong as all other mistakes are said."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(*_problems(self, message))


def _problems(parser: argparse.ArgumentParser, message: str) -> list[Problem]:
    """What argparse complains of, in our words."""
    help = f"{parser.prog} --help"
    if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
        places = [each for each in parser._actions if not each.option_strings and each.nargs not in ("?", "*")]
        usage = [str(each.metavar or each.dest).upper() + (" …" if each.nargs == "+" else "") for each in places]
        return [Problem(missing[1].upper(), f"is missing: {parser.prog} {' '.join(usage)}   ({help})", _WHERE)]
    if unknown := re.fullmatch(r"unrecognized arguments: (.*)", message):
        return [_unknown(parser, word, help) for word in unknown[1].split(" ")]
    if choice := re.fullmatch(r"argument (.*?): invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
        known = [word.strip("' ") for word in choice[3].split(",")]
        text = f"must be one of {', '.join(known)}, not {choice[2]!r}{_meant(choice[2], known)}"
        return [Problem(choice[1], text, _WHERE)]
    about = re.fullmatch(r"argument (.*?): (.*)", message)
    flag, text = (about[1], about[2]) if about else ("", message)
    text = re.sub(r"^expected (one|at least one) argument$", f"needs a value   ({help})", text)
    return [Problem(flag, text, _WHERE)]


def _unknown(parser: argparse.ArgumentParser, word: str, help: str) -> Problem:
    flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    if not word.startswith("-"):
        return Problem(word, f"is one word too many   ({help})", _WHERE)
    name = word.strip("-").partition("=")[0].replace("-", "_")
    key = name if name in Run.__annotations__ else HABITS.get(name)
    if key and "--config-dir" in flags:
        return Problem(word, f"is no flag of {parser.prog}. A key is written without dashes: {key}=VALUE", _WHERE)
    return Problem(word, f"is no flag of {parser.prog}{_meant(word, flags) or f'   ({help})'}", _WHERE)


def _meant(word: str, known: list[str]) -> str:
    close = nearest(word, known)
    return f". Did you mean {close[0]}?" if close else ""


class _NoSweep(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> None:
        text = f"{parser.prog} looks at one run: leave it out, and give each key one value. A sweep is tune run -m …"
        raise ConfigError(Problem("-m", text, _WHERE))


def refuse_picture(path: Path) -> None:
    """What `--picture` cannot write to, said before the work that is drawn.

    Raises:
        ConfigError: if it is no .png, or in no folder.
    """
    if path.suffix != ".png":
        raise ConfigError(Problem("--picture", f"{path} does not end with .png"))
    if not path.absolute().parent.is_dir():
        raise ConfigError(Problem("--picture", f"there is no folder {path.parent}"))
