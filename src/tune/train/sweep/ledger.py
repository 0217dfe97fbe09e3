"""What is already done: the key of a trial, the finished ones on disk, and the sweep folder with its lock.

The key is a digest of all that decides a trial's numbers. A trial found done under its key, in this sweep's folder or
another's of the same experiment, is not run again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from tune import __version__
from tune.errors import ConfigError, Problem
from tune.run_dir import read_json

# Top-level keys that say where, how fast or how well a trial should run, not what it computes.
_NOT_IN_KEY = frozenset({"output", "jobs", "logger", "cache", "expected", "sweep", "ensemble", "monitor", "pictures"})


def ledger_key(config: dict[str, Any], data_fingerprint: str, modules_digest: str = "") -> str:
    """Digest of what decides a trial's numbers, 64 hex digits.

    Args:
        config: the composed config as a plain dict.
        data_fingerprint: of the data that it reads.
        modules_digest: of the source of the user's own modules (`source_digest`).
    """
    stages = [deciding(stage["config"]) for stage in config.get("stages", [])]
    parts = [deciding(config), *stages, data_fingerprint, modules_digest, __version__]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def deciding(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the keys that change no number of the result: output, logger, data.workers …

    Of the stages of a chain it keeps the words; the rest of them follows from this config and the files.
    """
    kept = {key: value for key, value in config.items() if key not in _NOT_IN_KEY}
    if isinstance(cache := config.get("cache"), dict) and cache.get("views"):
        kept["views"] = cache["views"]  # the one key of the cache that does
    if isinstance(ensemble := config.get("ensemble"), dict) and ensemble.get("member") is not None:
        kept["ensemble"] = ensemble  # a boosted member follows from those before it
    if stages := config.get("stages"):
        kept["stages"] = [stage["words"] for stage in stages]
    if isinstance(kept.get("data"), dict):
        kept["data"] = {key: value for key, value in kept["data"].items() if key != "workers"}
    return kept


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def source_digest(modules: list[str]) -> str:
    """Digest of the source files of modules and packages, found without importing them; "" for an empty list.

    Raises:
        ConfigError: if one of them cannot be found.
    """
    if not modules:
        return ""
    digest = hashlib.sha256()
    for module in sorted(modules):
        for path in _source_files(module):
            digest.update(f"{module}\0{path.name}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def sweep_dir_of(output: Path, name: str, command: list[str]) -> Path:
    """Folder of a sweep: the same overrides in the same order, the same folder."""
    typed = "\0".join(" ".join(override.split()) for override in command)
    return Path(output) / name / f"sweep-{hashlib.sha256(typed.encode()).hexdigest()[:8]}"


@contextmanager
def locked(sweep_dir: Path, what: str = "sweep") -> Iterator[None]:
    """Hold the sweep folder for this process alone; the kernel lets go of it when the process ends, however it ends.

    Raises:
        ConfigError: if another process holds it.
    """
    sweep_dir.mkdir(parents=True, exist_ok=True)
    with (sweep_dir / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            text = f"this {what} is being run by another process (pid {holder}). Wait for it, or end it first."
            raise ConfigError(Problem(str(sweep_dir), text)) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def is_held(sweep_dir: Path) -> bool:
    """Whether a process runs this sweep now."""
    try:
        with (sweep_dir / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go of when the file is closed
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """What a trial's `run.json` says; None when there is none."""
    try:
        return read_json(run_dir / "run.json")
    except FileNotFoundError:
        return None


def finished(name_dir: Path) -> dict[str, Path]:
    """Key → run folder of all trials that are done, in any sweep of this experiment."""
    found: dict[str, Path] = {}
    for path in sorted(name_dir.glob("sweep-*/*/run.json")):
        record = read_json(path)
        if record["status"] == "done" and "ledger_key" in record:
            found.setdefault(record["ledger_key"], path.parent)
    return found


def set_aside(run_dir: Path) -> Path:
    """Move an earlier attempt out of the way, to `<n>.attempt<k>`; returns where it is now."""
    attempt = 1
    while (target := run_dir.with_name(f"{run_dir.name}.attempt{attempt}")).exists():
        attempt += 1
    return run_dir.rename(target)


def _source_files(module: str) -> list[Path]:
    """Files of a module, all files of a package; parents are looked up, not imported."""
    path: list[str] | None = None
    spec = None
    parts = module.split(".")
    for depth in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: depth + 1]), path)
        if spec is None:
            raise ConfigError(Problem(module, "there is no module of this name on Python's path"))
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations is not None else []
    if path:
        return sorted(file for folder in path for file in Path(folder).rglob("*.py"))
    return [Path(spec.origin)] if spec is not None and spec.origin else []
