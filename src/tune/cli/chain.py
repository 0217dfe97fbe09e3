"""What a chain of stages is on the command line: its folder, its dry run, and how one is taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.errors import ConfigError, Problem
from tune.train.chain.parts import parts_of
from tune.train.sweep.ledger import ledger_key

if TYPE_CHECKING:
    from tune.config.compose import Composed
    from tune.train.experiment import Job
    from tune.train.prepare import Prepared


def folder_of(cfg: dict[str, Any], fingerprint: str, modules: str) -> str:
    """Where a chain that is no trial of a sweep lies: what has the same key, has the same folder."""
    key = ledger_key(cfg, fingerprint, modules)
    return str(Path(cfg["output"]) / cfg["name"] / f"chain-{key[:8]}") if cfg["stages"] else ""


def runs_of(composed: Composed) -> list[tuple[str, Composed]]:
    """The runs that a config asks for: itself, or each stage with what messages put before a key."""
    return [(f"stage {number}: ", stage) for number, stage in enumerate(composed.stages, start=1)] or [("", composed)]


def prepared_parts(job: Job) -> Iterator[tuple[list[str], dict[str, str], Prepared]]:
    """For a dry run: title, choices and what `prepare` makes of a run; of a chain, of each, as if it ran by itself."""
    from tune.train.adapt.beside import before_training
    from tune.train.chain.run import check_parts
    from tune.train.prepare import prepare

    if not job.config["stages"]:
        *source, run = before_training(job.config)
        for config in source:
            yield ["source    is learned first, then closed"], job.choices, prepare(config, decode=False)
        title = ["target    from what that run leaves"] if source else []
        yield title, job.choices, prepare(run, decode=False)
        return
    for part in parts_of(job.config, Path(job.config["output"])):
        ((_, made),) = check_parts([part], decode=False)
        yield [f"chain     {part.title}   {' '.join(part.words)}"], part.choices, made


def refuse_changes(name: str, config: dict[str, Any], overrides: list[str]) -> None:
    """A chain is resumed as it is.

    Raises:
        ConfigError: if something is to change.
    """
    if config["stages"] and overrides:
        key = overrides[0].lstrip("+").partition("=")[0]
        text = f"a chain goes on as it is: tune resume {name}. With another value it is another chain: tune run …"
        raise ConfigError(Problem(key, text, "command line"))
