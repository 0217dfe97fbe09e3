"""`tune explain KEY [overrides]`: where a value comes from, what it overrides, who reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of
from tune.config.signature.types import written
from tune.config.tree import ConfigTree
from tune.errors import ConfigError

if TYPE_CHECKING:
    from tune.config.tell.explain import Explained


def explain(words: list[str]) -> int:
    """`tune explain KEY [overrides]`. Returns the exit code.

    Raises:
        ConfigError: if there is no such key, or nothing can be composed.
    """
    about = "Say where the value of a key comes from, what it overrides and who reads it; a group is a key too."
    parser = parser_of("explain", about, "configs")
    parser.add_argument("key", help="dotted, as in data.split.seed; or a group")
    parser.add_argument("overrides", nargs="*", help="as of tune run: +experiment=NAME, lr=1e-4 …")
    asked = parser.parse_intermixed_args(words)
    from tune.config.compose import compose
    from tune.config.tell.explain import explain as explained_by

    tree = ConfigTree.find(asked.config_dir)
    composed = compose(tree, asked.overrides)
    if composed.problems:
        raise ConfigError(*composed.problems)
    explained = explained_by(composed, tree, asked.key)
    if asked.json:
        print(json.dumps(_plain(asdict(explained))))
    else:
        print("\n".join(_lines(explained)))
    return 0


def _lines(told: Explained) -> Iterator[str]:
    value = "" if isinstance(told.value, dict) and told.keys else f" = {written(told.value)}"
    yield f"{told.key}{value}"
    origin = told.where or "nobody: it is made up of what follows"
    origin += " (the default of its signature)" if told.is_default else ""
    yield f"  set by    {origin}" + (f"   # {told.why}" if told.why else "")
    for each in told.over:
        yield f"  over      {each.where}   {written(each.value)}"
    for each in told.varied:
        yield f"  varied    {each.where}   {written(each.value)}"
    if told.about:
        yield f"  about     {told.about}"
    if told.reader is not None:
        yield f"  takes     {told.reader.takes}"
        yield f"  read by   {told.reader.owner}({told.reader.name})   {told.reader.where}"
    elif told.target:
        yield f"  builds    {told.target}"
    width = max((len(each.key) for each in told.keys), default=0)
    values = max((len(written(each.value)) for each in told.keys), default=0)
    for each in told.keys:
        yield f"    {each.key:<{width}}  {written(each.value):<{min(values, 30)}}  {each.where}"


def _plain(value: Any) -> Any:
    """The same as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if value is ... else value
