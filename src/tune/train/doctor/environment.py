"""Checks of the machine: which `tune` this is, on what it runs, and whether there is room."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import tune
from tune.errors import ConfigError
from tune.features.cache import default_folder
from tune.talk import counted
from tune.train.devices.precision import choose_precision
from tune.train.devices.trainer import device_type
from tune.train.doctor.finding import Finding, judged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tune.train.doctor.case import Case

_ROOM_GB = 1.0
_TIGHT_GB = 0.1


def check_versions(case: Case) -> Iterator[Finding]:
    """What runs here, and whether the command `tune` is this one."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "pytorch-lightning", "hydra-core"))
    text = f"tune {tune.__version__}, python {platform.python_version()}, {packages}"
    found = shutil.which("tune")
    here = Path(sys.executable).parent
    if found and Path(found).resolve().parent not in (here, here.resolve()):
        text += f"; but the command tune is {found}, not that of {sys.executable}"
        yield Finding("versions", "WARN", text, f"{sys.executable} -m tune …")
    else:
        yield Finding("versions", "PASS", text)


def check_device(case: Case) -> Iterator[Finding]:
    """Device and precision that the run gets."""
    try:
        device = device_type(case.config["trainer"])
        run = case.prepared
        precision = run.precision if run is not None else choose_precision(case.config["precision"], device)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("device", "FAIL", f"{problem.key}: {problem.text}", "trainer=auto")
        return
    name = torch.cuda.get_device_name() if device == "cuda" else device
    yield Finding("device", "PASS", f"{name}; {precision.reason}")


def check_threads(case: Case) -> Iterator[Finding]:
    """Threads against the cores that this process may use."""
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    waiting = os.getloadavg()[0]
    text = f"{counted(threads, 'thread')} on {counted(cores, 'core')}, load {waiting:.1f}"
    if threads > cores:
        yield Finding("threads", "WARN", f"{text}: they take turns", f"OMP_NUM_THREADS={cores} tune …")
    elif threads < cores and case.config["trainer"].get("accelerator", "auto") in ("auto", "cpu"):
        yield Finding("threads", "PASS", f"{text}: OMP_NUM_THREADS keeps {cores - threads} free")
    else:
        yield Finding("threads", "PASS", text)


def check_disk(case: Case) -> Iterator[Finding]:
    """Room for runs and for what is cached."""
    node = case.config["cache"]
    folders = {"output": Path(case.config["output"]), "cache.dir": default_folder()}
    limit = float(node["max_gb"]) if "max_gb" in node else None
    for key, folder in folders.items():
        there = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
        free = shutil.disk_usage(there).free / 1e9
        text = f"{free:,.1f} GB free for {folder}"
        if key == "cache.dir" and limit is not None:
            text += f", at most {limit:g} GB are used"
        if not os.access(there, os.W_OK):
            yield Finding("disk", "FAIL", f"{there} cannot be written", f"{key}=…")
        else:
            yield judged(
                "disk", free > _ROOM_GB, text, f"{key}=… elsewhere", otherwise="FAIL" if free < _TIGHT_GB else "WARN"
            )
