"""Every error that a user can cause, as one tree.

TuneError
├── ConfigError    what was asked for cannot run; holds all problems found (exit code 2)
├── DataError      the images or labels cannot be used (exit code 2)
├── RunError       the run started and could not go on (exit code 1)
│   └── Diverged   the loss became NaN or infinite (exit code 5)
└── MissingExtra   an optional package is not installed (exit code 2)

The command line prints these in one paragraph, without a traceback. Anything else is a bug of ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the key or file it concerns, where it was written, and what to do.

    Args:
        key: dotted key, or the path of a file.
        text: what is wrong and what to do, one or two short sentences.
        where: "command line", or "FILE:LINE"; empty when nobody wrote it (a default).
    """

    key: str
    text: str
    where: str = ""


class TuneError(Exception):
    """Base of all errors that are shown without a traceback."""

    exit_code = 1


class ConfigError(TuneError):
    """What was asked for cannot run. Collects every problem, so that one look shows them all."""

    exit_code = 2

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = [p if isinstance(p, Problem) else Problem(*_key_and_text(p)) for p in problems]
        super().__init__("; ".join(f"{p.key}: {p.text}" if p.key else p.text for p in self.problems))

    def below(self, name: str) -> ConfigError:
        """The same of a part that stands under `name` in its node: backbone.weights → backbone.first.weights."""
        moved = []
        for problem in self.problems:
            group, dot, rest = problem.key.partition(".")
            key = f"{group}.{name}{dot}{rest}" if rest else problem.key
            moved.append(Problem(key, problem.text.replace(f"{group}.", f"{group}.{name}."), problem.where))
        ConfigError.__init__(self, *moved)
        return self


class DataError(ConfigError):
    """The images or labels that the run names cannot be used as they are."""


class RunError(TuneError):
    """The run had started and could not go on."""


class Diverged(RunError):
    """The loss, or an output of the network, is no longer a finite number."""

    exit_code = 5


class MissingExtra(ConfigError):
    """An optional package is needed and absent; the message holds the install line."""

    def __init__(self, key: str, package: str, extra: str) -> None:
        super().__init__(Problem(key, f"needs a package of the extra [{extra}]: pip install {package}"))


def _key_and_text(message: str) -> tuple[str, str]:
    """Split "key: text"; a message that does not start with a dotted key has an empty one."""
    key, colon, text = message.partition(": ")
    return (key, text) if colon and " " not in key else ("", message)
