"""What `lr=auto` cannot be combined with. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tune.config.across.repeats import ensemble_of
from tune.errors import Problem

LBFGS = "tune.train.optim.lbfgs"


def problems(cfg: dict[str, Any]) -> Iterator[Problem]:
    """Why the run cannot look for its rate by itself."""
    if cfg.get("lr") != "auto":
        return
    optimizer, trainer = cfg.get("optimizer"), cfg.get("trainer")
    if isinstance(optimizer, dict) and optimizer.get("_target_") == LBFGS:
        yield Problem("lr", "lbfgs looks for the length of each step by itself: lr=1 is usual")
    if isinstance(trainer, dict) and str(trainer.get("strategy", "")).startswith("ddp"):
        yield Problem("lr", "auto looks in one process. Find a rate with tune lr-find trainer=auto, and type it")
    if ensemble_of(cfg).combine == "boost":
        text = "auto looks at one network, and boosted members train as one. Find a rate with tune lr-find, and type it"
        yield Problem("lr", text)
