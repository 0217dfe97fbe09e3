"""What of the machine each of several trials at once gets: threads and GPUs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def threads_each(jobs: int) -> int:
    """Threads for each of `jobs` processes at once; OMP_NUM_THREADS, where set, says how many there are for all."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() else available_cores()
    return max(1, cores // jobs)


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without CUDA."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() and name.strip() != "-1"]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []


def gpu_env(gpus: list[str], slot: int, config: dict[str, Any]) -> dict[str, str]:
    """One GPU for a trial where there are several, as many as its trainer asks for, or all of them when it says so."""
    devices = config["trainer"].get("devices", 1) if isinstance(config.get("trainer"), dict) else 1
    number = int(devices) if str(devices).isdecimal() else len(gpus)
    if len(gpus) < 2 or number >= len(gpus):
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[(slot * number + i) % len(gpus)] for i in range(number))}
