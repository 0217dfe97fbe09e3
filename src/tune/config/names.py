"""Names that timm knows, read from its source by regular expression: importing timm takes three seconds."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tune.config.habits import nearest

_MODEL = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_RENAMED = re.compile(r"^    '(\w+)'\s*:\s*'\w+", re.MULTILINE)
_OPTIMIZER = re.compile(r"(?:OptimInfo\(\s*name=|register_alias\()['\"](\w+)['\"]")
_REMOTE = ("hf-hub:", "hf_hub:", "local-dir:")


@cache
def timm_models() -> frozenset[str]:
    """Names of timm's models, without their tags."""
    found: set[str] = set()
    for path in sorted((_timm() / "models").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        found |= set(_MODEL.findall(text))
        found |= set(_RENAMED.findall(text.partition("register_model_deprecations(")[2]))
    return frozenset(found)


@cache
def timm_optimizers() -> frozenset[str]:
    """Names of timm's optimizers."""
    return frozenset(_OPTIMIZER.findall((_timm() / "optim" / "_optim_factory.py").read_text(encoding="utf-8")))


def wrong_model(name: str) -> str:
    """What to say of a model name that timm does not know, "" if it does."""
    if name.startswith(_REMOTE):
        return ""
    architecture = name.partition(".")[0]
    return "" if architecture in timm_models() else _not_known("model", architecture, timm_models())


def wrong_optimizer(name: str) -> str:
    """What to say of an optimizer name that timm does not know, "" if it does."""
    return "" if name in timm_optimizers() else _not_known("optimizer", name, timm_optimizers())


KNOWN: dict[str, Callable[[str], str]] = {"backbone.name": wrong_model, "optimizer.name": wrong_optimizer}
"""The keys that hold such names."""


def _not_known(what: str, name: str, known: frozenset[str]) -> str:
    close = nearest(name, known)
    return f"timm has no {what} called {name!r}." + (f" Did you mean {' or '.join(close)}?" if close else "")


def _timm() -> Path:
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))
