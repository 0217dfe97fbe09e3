"""Ordinary runs beside an adaptation: what it starts from, and what it is compared with. Found again by their key."""

from __future__ import annotations

import fcntl
import shutil
import signal
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tune.config.across.domains import is_domains, learns_source_first
from tune.config.gate import OURS, THEIRS, nodes
from tune.data.domains.join import with_classes
from tune.data.options import separate
from tune.errors import ConfigError, DataError, Problem, RunError
from tune.models.weights import load_run
from tune.run_dir import find_run, shown
from tune.train.interrupt import Interrupted
from tune.train.rows import judge
from tune.train.sweep.ledger import ledger_key, read_record, source_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tune.data.table import Table
    from tune.models.interface import Head

Say = Callable[[str], None]
STATISTICS = "tune.transfer.statistics.Statistics"
FINE_TUNE = "tune.transfer.fine_tune.FineTune"


def of_source(config: dict[str, Any]) -> dict[str, Any]:
    """The run that learns from the source alone, and standardises the target afterwards; it knows no label of that."""
    data = {key: value for key, value in config["data"].items() if key != "labelled"}
    return _alone(config) | {"data": data, "transfer": {"_target_": STATISTICS}}


def of_target(config: dict[str, Any]) -> dict[str, Any]:
    """The run that learns from the target with all its labels: what an adaptation cannot be expected to reach."""
    data = config["data"]
    if is_domains(data):
        _, reader = separate(data)
        options = {key: value for key, value in data.items() if key not in reader}
        split = {**data["target"].get("split", {}), **data.get("split", {})}
        data = {**options, **data["target"], "split": split}
    objective = "val/accuracy" if config["objective"] == "val/infomax" else config["objective"]
    return _alone(config) | {"data": data, "transfer": {"_target_": FINE_TUNE}, "objective": objective}


def with_source(config: dict[str, Any], say: Say) -> dict[str, Any]:
    """The config of a run that can start: where the source is to be closed, it is learned from first."""
    if not learns_source_first(config):
        return config
    return _from_run(config, found_or_run(of_source(config), say, "source    is learned first, then closed"))


def before_training(config: dict[str, Any]) -> list[dict[str, Any]]:
    """What can be looked at before anything trains: the run, and before it that of a source that is not learned yet."""
    if not learns_source_first(config):
        return [config]
    source = of_source(config)
    if _is_done(folder := _folder_of(source)):
        return [_from_run(config, folder)]
    return [source, {**config, "data": {**config["data"], "source": None}}]


def as_trained(table: Table, config: dict[str, Any]) -> Table:
    """The table with the classes of the run that the weights come from.

    Raises:
        DataError: if its own are others.
    """
    run = str(config["backbone"]["weights"]).removeprefix("run:")
    described = yaml.safe_load((find_run(run, config["output"]) / "model.yaml").read_text())
    return with_classes(table, described["classes"], "data", f"the run {run}")


def take_head(head: Head, config: dict[str, Any]) -> None:
    """Fill a head with that of the run which the backbone comes from.

    Raises:
        ConfigError: if that head is another one.
    """
    run = str(config["backbone"]["weights"]).removeprefix("run:")
    try:
        load_run(head, run, config["output"], "head.")
    except ConfigError as error:
        texts = [Problem("head", f"transfer keeps the head of that run; {each.text}") for each in error.problems]
        raise ConfigError(*texts) from error


def found_or_run(config: dict[str, Any], say: Say, what: str) -> Path:
    """The folder of a finished run of this config; it is run if there is none.

    Args:
        config: of an ordinary run.
        say: prints a line.
        what: it is, for the line that says where it is.

    Raises:
        RunError: if it fails.
    """
    from tune.train.experiment import Job, execute

    folder = _folder_of(config)
    with _held(folder):
        if not _is_done(folder):
            shutil.rmtree(folder, ignore_errors=True)
            say(f"{what}: {shown(folder)}")
            outcome = execute(
                Job(config, run_dir=str(folder)), lambda line: say(f"  {line}") if line.startswith("epoch") else None
            )
            if outcome.status == "interrupted":
                raise Interrupted(signal.SIGINT if outcome.exit_code == 130 else signal.SIGTERM)
            if outcome.status != "done":
                log = f"log: {shown(folder / 'run.log')}"
                raise RunError(f"{what}: it {outcome.status}, {outcome.cause}   {log}")
    return folder


def _folder_of(config: dict[str, Any]) -> Path:
    """Where a run of this config lies, done or not.

    Raises:
        DataError: if its rows cannot be read.
    """
    problems, fingerprint = judge(config)
    if problems:
        raise DataError(*problems)
    targets = [str(node["_target_"]) for _, node in nodes(config) if "_target_" in node]
    own = {name.rpartition(".")[0] for name in targets if not name.startswith(OURS) and name not in THEIRS}
    modules = sorted(module for module in own if not module.startswith("pytorch_lightning"))
    key = ledger_key(config, fingerprint, source_digest(modules))
    return Path(config["output"]) / config["name"] / f"beside-{key[:12]}"


def _is_done(folder: Path) -> bool:
    record = read_record(folder)
    return record is not None and record["status"] == "done"


def _from_run(config: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """The config with the weights of a run, of a backbone that need not name any."""
    return {**config, "backbone": {**config["backbone"], "weights": f"run:{run_dir}"}}


def _alone(config: dict[str, Any]) -> dict[str, Any]:
    """The config of a run beside which no other stands."""
    return {**config, "guard": False, "logger": {}, "evaluate": {}, "stages": [], "pictures": False}


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Wait until no other process works on a folder; the kernel lets go when this one ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
