"""The run folder: how it is made, written and found again.

A run writes every file through `atomic_write`, so that whoever reads the folder, at any moment and after any
kill, sees whole files only. `run.json` is written first (status "running") and last (with the result).
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import socket
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from tune.errors import ConfigError, Problem

HIDDEN = "***"
"""What stands in config.yaml for a secret."""

_SECRETS = ("token", "password", "secret", "api_key", "apikey", "credential")


def atomic_write(path: Path, data: str | bytes) -> None:
    """Put `data` at `path` so that a crash at any point leaves the old file or the new one, never a part.

    Temporary file in the same directory, flush, fsync, replace, fsync of the directory.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    sync_dir(path.parent)


def sync_dir(path: Path) -> None:
    """Make the entries of a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity become null: JSON has no word for them."""
    atomic_write(path, json.dumps(_finite(value), indent=2, default=str) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    """Write plain data as YAML, keys in their order, atomically; by libyaml where it is there, ten times as fast."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    atomic_write(path, yaml.dump(value, Dumper=dumper, sort_keys=False))


def read_json(path: Path) -> Any:
    """Read a JSON file that `write_json` wrote."""
    return json.loads(Path(path).read_text())


def create_run_dir(output: Path, name: str) -> Path:
    """Make `<output>/<name>/<time>-<6 hex>` for this run alone."""
    folder = Path(output) / name
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        path = folder / f"{datetime.now():%Y-%m-%dT%H-%M-%S}-{secrets.token_hex(3)}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


def run_id(run_dir: Path) -> str:
    """Short name of a run: the 6 hex digits of its folder, or `<sweep hex>#<number>` for a trial.

    A run that is part of a chain goes by the chain's name, under which it is resumed.
    """
    run_dir = Path(run_dir)
    if run_dir.parent.name.startswith("chain-") or run_dir.parent.parent.name.startswith("sweep-"):
        return run_id(run_dir.parent)
    if run_dir.parent.name.startswith("sweep-"):
        return f"{run_dir.parent.name.removeprefix('sweep-')}#{run_dir.name}"
    return run_dir.name.rsplit("-", 1)[-1]


def find_run(run: str, output: Path | str = "outputs") -> Path:
    """Find a run folder by its path, by the start of its id, by `<sweep>#<number>`, or by "latest".

    A sweep is named by the start of its hex digits, by its folder's name, or by its path.

    Raises:
        ConfigError: if there is none, or more than one.
    """
    for direct in (Path(run), Path(*run.split("#", 1))):
        if (direct / "run.json").is_file():
            return direct
    output, (sweep, _, number) = Path(output), run.removeprefix("sweep-").partition("#")
    begun = glob.escape(sweep)  # the word is a name, whatever it holds
    runs = sorted(path.parent for path in output.glob("*/*/run.json"))
    if run == "latest":
        found = sorted(runs, key=lambda path: (path / "run.json").stat().st_mtime)[-1:]
    elif "#" in run:
        found = [path.parent for path in output.glob(f"*/sweep-{begun}*/{glob.escape(number)}/run.json")]
    else:
        found = [path for path in runs if run_id(path).startswith(run) or path.name == run] if run else []
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(Problem(run, f"{len(found)} runs begin so: {', '.join(run_id(path) for path in found[:5])}"))
    of_sweep = [
        Path(run.partition("#")[0]) / "sweep.json",
        *(output.glob(f"*/sweep-{begun}*/sweep.json") if sweep else []),
    ]
    if len(sweeps := [path for path in of_sweep if path.is_file()]) == 1:
        raise ConfigError(Problem(run, _no_trial(sweeps[0], number)))
    last = f"Last runs: {', '.join(run_id(path) for path in runs[-3:]) or 'none yet'}"
    if names := [path.parent.name.removeprefix("sweep-") for path in output.glob("*/sweep-*/sweep.json")]:
        last += f"; sweeps: {', '.join(names[-3:])}"
    raise ConfigError(Problem(run, f"no such run in {output}/ (looked for a folder with run.json). {last}"))


def _no_trial(sweep: Path, number: str) -> str:
    """Why a sweep (its sweep.json) has no such trial."""
    name = sweep.parent.name.removeprefix("sweep-")
    count = len(read_json(sweep)["trials"])
    if not number:
        return f"is a sweep; take one of its trials: {name}#1 to {name}#{count}   (tune top {name})"
    if number not in map(str, range(1, count + 1)):
        return f"the sweep has {count} trials: {name}#1 to {name}#{count}"
    return f"has no folder: it was not started, or another run stands for it (summary.csv in {shown(sweep.parent)})"


def epochs_behind(run_dir: Path) -> int:
    """How many epochs a run has finished."""
    history = Path(run_dir) / "metrics.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def is_secret(key: str) -> bool:
    """Whether a key sounds as if its value were for nobody else."""
    return any(word in key.lower() for word in _SECRETS)


def process_identity() -> dict[str, Any]:
    """Who writes a run folder: `pid`, `host` and the process's start, to tell a dead run from a running one."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "pid_started": process_start(os.getpid())}


def process_start(pid: int) -> str:
    """When a process started, in the kernel's clock ticks (Linux); empty where it cannot be read or has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]  # Z: ended, and nobody has asked for its exit code yet


def is_alive(record: dict[str, Any]) -> bool:
    """Whether the process that wrote this `run.json` still runs. One on another host is taken to be alive."""
    if record["host"] != socket.gethostname():
        return True
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process_start(record["pid"]) == record["pid_started"]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
