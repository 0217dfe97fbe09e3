"""`tune doctor`: all checks of a run, on a copy of it that leaves nothing behind."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tune.errors import ConfigError, TuneError
from tune.models.interface import FittedHead
from tune.train.doctor.case import Case
from tune.train.doctor.checks import CHECKS, Check
from tune.train.doctor.finding import Finding
from tune.train.doctor.watch import watched
from tune.train.prepare import prepare, read_data

STEPS, SECONDS = 40, {True: 5.0, False: 20.0}
"""Steps of the run's own training that are watched at most, and seconds for them in a quick look and in a full one."""

_WHERE = "tune run … --traceback shows where"
OF_LOGITS = ("loss", "start", "inputs", "leak", "gradcheck")
"""Checks that a head which is fitted at once has no use for."""


def examine(config: dict[str, Any], names: list[str], *, quick: bool = False, picture: str = "") -> Iterator[Finding]:
    """What the named checks find, one after the other; whatever goes wrong in one is a finding too.

    Args:
        config: composed and checked.
        names: of checks.
        quick: look at fewer rows and steps.
        picture: file for a batch; empty for none.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = copy.deepcopy(config)
        own["cache"] = {**own["cache"], "dir": folder}
        # An image that cannot be read is a finding; the others can still be looked at.
        own["data"]["unreadable"] = "skip"
        case = Case(own, quick=quick, picture=picture)
        needs = {CHECKS[name].needs for name in names}
        if needs - {""}:
            yield from _read(case)
            if not case.skipped:
                own["data"]["unreadable"] = "error"  # with nothing to leave out, no image has to be decoded again
        if needs & {"run", "training"} and case.table is not None:
            yield from _build(case)
        case.config = {**own, "data": config["data"], "cache": config["cache"]}
        for name in names:
            yield from _made(name, CHECKS[name], case, own)


def _read(case: Case) -> Iterator[Finding]:
    known = {**case.config, "cache": {**case.config["cache"], "mode": "auto"}}  # copies are found by content
    try:
        case.table, case.parts, case.skipped, case.contents = read_data(known)
    except TuneError as error:
        yield from _problems("data", error)
    except Exception as error:  # of a reader that the user wrote
        yield Finding("data", "FAIL", f"{type(error).__name__}: {_first(error)}", _WHERE)


def _build(case: Case) -> Iterator[Finding]:
    try:
        case.prepared = prepare(case.config, decode=False)
    except TuneError as error:
        yield from _problems("build", error)
    except Exception as error:  # of a class that the user wrote
        yield Finding("build", "FAIL", f"{type(error).__name__}: {_first(error)}", _WHERE)
    else:
        case.table, case.parts = case.prepared.table, case.prepared.parts


def _made(name: str, check: Check, case: Case, own: dict[str, Any]) -> Iterator[Finding]:
    if check.needs and case.table is None:
        yield Finding(name, "SKIP", "not looked at: the data cannot be read")
        return
    if check.needs in ("run", "training") and case.prepared is None:
        yield Finding(name, "SKIP", "not looked at: the run cannot be built")
        return
    is_fitted = case.prepared is not None and isinstance(case.prepared.network.head, FittedHead)
    if is_fitted and (check.needs == "training" or name in OF_LOGITS):
        yield Finding(name, "SKIP", "the head is fitted at once, not trained")
        return
    if check.is_slow and case.quick:
        yield Finding(name, "SKIP", "left out of a quick look")
        return
    given, case.config = case.config, own if name == "overfit" else case.config
    try:
        if check.needs == "training" and case.watched is None:
            case.watched = watched(case.run, STEPS, SECONDS[case.quick])
        module, _, function = check.look.partition(".")
        yield from getattr(import_module(f"tune.train.doctor.{module}"), function)(case)
    except TuneError as error:
        yield from _problems(name, error)
    except Exception as error:  # of the network, the loss or the data at hand: that is what is looked for
        yield Finding(name, "FAIL", f"{type(error).__name__}: {_first(error)}", _WHERE)
    finally:
        case.config = given


def _problems(name: str, error: TuneError) -> Iterator[Finding]:
    if not isinstance(error, ConfigError):
        yield Finding(name, "FAIL", str(error))
        return
    for problem in error.problems:
        yield Finding(name, "FAIL", f"{problem.key}: {problem.text}")


def _first(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else ""
