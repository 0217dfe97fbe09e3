"""The transfer method that a config names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tune.config.build import build
from tune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from tune.transfer.interface import Transfer


def build_method(config: dict[str, Any]) -> Transfer:
    """Build it, and whatever backbone stands in its node.

    Raises:
        ConfigError: if it cannot be built; a backbone's complaints have the keys of where it stands.
    """
    try:
        return build(config["transfer"], output=config["output"])
    except ConfigError as error:
        raise ConfigError(*(_moved(problem) for problem in error.problems)) from error


def _moved(problem: Problem) -> Problem:
    group, _, rest = problem.key.partition(".")
    if group != "backbone":
        return problem
    return replace(problem, key=f"transfer.{rest}", text=problem.text.replace("backbone.", "transfer."))
