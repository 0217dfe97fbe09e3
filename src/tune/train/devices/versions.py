"""What a run computes with beside its device: versions of packages, and the commit that it ran from. Torch-free."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata

PACKAGES = (
    "tune",
    "torch",
    "torchvision",
    "timm",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "pillow",
    "numpy",
    "scikit-learn",
)


def versions() -> dict[str, str]:
    """Versions of Python and of every package that can change a number."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def git_sha() -> str:
    """Commit of the working directory, with "+" when it has changes; empty outside a repository."""
    try:
        sha = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return sha.stdout.strip() + ("+" if dirty.stdout.strip() else "")
