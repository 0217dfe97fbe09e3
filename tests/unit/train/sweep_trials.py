"""Trial functions without torch, for the tests of sweeps: each does what its config says under `do`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tune.run_dir import process_identity, write_json


def trial(job: dict[str, Any]) -> int:
    if "last" in job:
        ACTS[job["last"]](job)
        print("the last step")
        return 0
    if "together" in job:
        (Path(job["together"][0]["run_dir"]).parent.parent / "groups.txt").open("a").write(f"{len(job['together'])}\n")
        return max(trial({**each, "record": each["record"] | {"in_group": True}}) for each in job["together"])
    config, run_dir = job["config"] | job["config"].get("loss", {}), Path(job["run_dir"])
    with (run_dir.parent.parent / "calls.txt").open("a") as calls:
        calls.write(f"{config['lr']} {os.getpid()}\n")
    identity = process_identity() | job["record"]
    write_json(run_dir / "run.json", {"status": "running", **identity})
    print(f"trial with lr {config['lr']}")
    time.sleep(config.get("sleep_s", 0))
    if "in_group" not in job["record"] or not config.get("only_alone"):
        ACTS[config.get("do", "finish")](config)
    elif config["only_alone"] == "die":
        raise RuntimeError("this cannot be fused")
    metrics = {"val/accuracy": accuracy(config), "test/accuracy": accuracy(config) - 0.01}
    write_json(run_dir / "run.json", {"status": "done", "seconds": 0.1, "metrics": metrics, **identity})
    return 0


def accuracy(config: dict[str, Any]) -> float:
    return 0.5 + 100 * config["lr"] + 0.01 * config.get("seed", 0)


def exit_quietly(config: dict[str, Any]) -> None:
    os._exit(7)


def hang(config: dict[str, Any]) -> None:
    while True:
        time.sleep(60)


def wait_until_told(config: dict[str, Any]) -> None:
    while not Path(config["told_by"]).exists():
        time.sleep(0.01)


def hang_deaf(config: dict[str, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hang(config)


def hang_with_worker(config: dict[str, Any]) -> None:
    start_worker(config)
    hang(config)


def die_with_worker(config: dict[str, Any]) -> None:
    start_worker(config)
    os.kill(os.getpid(), signal.SIGKILL)


def start_worker(config: dict[str, Any]) -> None:
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(config["worker_pid"]).write_text(str(worker.pid))


def raise_error(config: dict[str, Any]) -> None:
    raise ValueError("no such thing\nsecond line")


def say_threads(config: dict[str, Any]) -> None:
    print("threads", os.environ["OMP_NUM_THREADS"], "argv", sys.argv[0])


ACTS = {
    "finish": lambda config: None,
    "raise": raise_error,
    "memory": lambda config: (_ for _ in ()).throw(MemoryError()),
    "sys.exit": lambda config: sys.exit(5),
    "os._exit": exit_quietly,
    "os._exit(0)": lambda config: os._exit(0),
    "kill": lambda config: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda config: ctypes.string_at(0),
    "hang": hang,
    "wait": wait_until_told,
    "hang deaf": hang_deaf,
    "hang with worker": hang_with_worker,
    "die with worker": die_with_worker,
    "threads": say_threads,
}
