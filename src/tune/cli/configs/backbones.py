"""`tune ls backbones [FILTER]`: options of `backbone`, and timm's models, whose names are read without importing it."""

from __future__ import annotations

import json
import shutil

from tune.cli.configs.look import matching
from tune.config.names import timm_models
from tune.config.tree import ConfigTree
from tune.errors import ConfigError, Problem


def ls(tree: ConfigTree, text: str, *, as_json: bool) -> int:
    """List what has a text in its name or sentence. Returns the exit code.

    Args:
        tree: whose options.
        text: the filter; without it timm's models are counted, and listed as JSON alone.
        as_json: as {"backbone": {option: sentence}, "timm": [names]}.

    Raises:
        ConfigError: if nothing has it.
    """
    options = matching(tree, "backbone", text)
    models = sorted(name for name in timm_models() if text.lower() in name)
    if not options and not models:
        raise ConfigError(Problem(text, "no option of backbone and no model of timm has this in its name"))
    if as_json:
        print(json.dumps({"backbone": options, "timm": models}))
        return 0
    width = max(map(len, options), default=0)
    for option, sentence in options.items():
        print(f"  {option:<{width}}  {sentence}".rstrip())
    print(
        f"timm: {len(models):,} models, by backbone=timm backbone.name=NAME" + ("" if text else "; with FILTER, names")
    )
    if text:
        print("\n".join(_columns(models)))
    return 0


def _columns(names: list[str]) -> list[str]:
    """Names below each other in as many columns as the terminal has room for."""
    width = max(map(len, names), default=0) + 2
    count = max(1, (shutil.get_terminal_size((100, 24)).columns - 2) // width)
    rows = -(-len(names) // count)
    lines = [names[row::rows] for row in range(rows)]
    return ["  " + "".join(f"{name:<{width}}" for name in line).rstrip() for line in lines]
