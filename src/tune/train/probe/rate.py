"""A rate for a run: what `tune lr-find` tells and `lr=auto` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tune.models.interface import FittedHead
from tune.run_dir import read_json
from tune.train.probe.divide import Tries, divide, judge
from tune.train.probe.range_test import HIGHEST, Curve, Suggestion, range_test, suggest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tune.train.prepare import Prepared

Method = Literal["both", "range", "divide"]
AUTO = "auto"
_STAND_IN = 1e-3  # for a network that is built before its rate is known


@dataclass(frozen=True)
class Found:
    """A rate, and what speaks for it.

    Args:
        suggestion: the rate, and the reason.
        curve: of the range test, where there was one.
        tries: of the divide rule, where there were any.
    """

    suggestion: Suggestion
    curve: Curve | None
    tries: Tries | None


def find_rate(prepared: Prepared, method: Method = "both") -> Found:
    """Look for the rate of a prepared run, and put everything back.

    Args:
        prepared: the run.
        method: `range` reads the rate off the range test, `divide` starts at 10 and divides by 3, `both` divides from
            the range test's largest stable rate.

    Raises:
        RunError: if no rate learns anything.
    """
    curve = range_test(prepared) if method != "divide" else None
    read = suggest(curve) if curve is not None else None
    if method == "range" and read is not None:
        return Found(read, curve, None)
    tries = divide(prepared, read.largest_stable if read is not None else HIGHEST)
    return Found(judge(tries), curve, tries)


def rate_of(config: dict[str, Any]) -> float:
    """The rate that a network is built with: as it was typed, or one that stands in until it is found."""
    return _STAND_IN if config["lr"] == AUTO else config["lr"]


def settle_rate(prepared: Prepared, resumed: str, say: Callable[[str], None]) -> None:
    """Find the rate of a run that leaves it to us; it is from now on what it would be had somebody typed it.

    Args:
        prepared: the run.
        resumed: the folder of a run that goes on, which keeps the rate that it has; empty for a new one.
        say: prints a line, as this may take a while.

    Raises:
        RunError: if no rate learns anything.
    """
    if prepared.config["lr"] != AUTO or isinstance(prepared.network.head, FittedHead):
        return
    known = read_json(Path(resumed) / "run.json")["auto"]["lr"] if resumed else None
    if known is None:
        say("lr        auto: a few steps at several rates come first")
    prepared.rate = Suggestion(**known) if known else find_rate(prepared).suggestion
    prepared.learner.base_lr = prepared.rate.lr
    prepared.config = {**prepared.config, "lr": prepared.rate.lr}
