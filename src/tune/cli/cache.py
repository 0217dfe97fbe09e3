"""`tune cache ls|build|verify|rm`: look at what frozen networks said of images, fill it, check it, remove it."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune.cli.arguments import parser_of
from tune.errors import ConfigError, Problem
from tune.talk import say

if TYPE_CHECKING:
    from tune.features.cache import Entry, FeatureCache

_CHECK_FAILED = 4


def cache(words: list[str]) -> int:
    """`tune cache VERB`. Returns the exit code; 4 when `verify` found something broken."""
    parser = parser_of("cache", "What frozen networks said of images, kept on disk.", "configs", "allow")
    parser.add_argument("verb", choices=("ls", "build", "verify", "rm"), help="list, fill for a run, check, remove")
    parser.add_argument("words", nargs="*", help="build: overrides of the run; rm: starts of keys, or all")
    parser.add_argument("--dir", help="folder of the cache ($XDG_CACHE_HOME/tune or ~/.cache/tune)")
    asked = parser.parse_intermixed_args(words)
    if asked.verb == "build":
        return _build(asked)
    if asked.verb != "rm" and asked.words:
        raise ConfigError(Problem(asked.words[0], f"tune cache {asked.verb} takes no words", "command line"))
    from tune.features.cache import FeatureCache, default_folder

    store = FeatureCache(Path(asked.dir).expanduser() if asked.dir else default_folder(), max_gb=0)
    act = {"ls": _ls, "verify": _verify, "rm": _rm}[asked.verb]
    answer, code = act(store, asked.words)
    if asked.json:
        print(json.dumps(answer))
    return code


def _ls(store: FeatureCache, words: list[str]) -> tuple[Any, int]:
    entries = store.entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        view = f", view {entry.parts['view']}" if "view" in entry.parts else ""
        print(f"{entry.folder.name[:8]}  {entry.num_bytes / 1e6:>10,.1f} MB  {used}  {entry.parts['about']}{view}")
    total = sum(entry.num_bytes for entry in entries)
    say(f"{len(entries)} keys, {total / 1e6:,.1f} MB in {store.folder}")
    return [{"key": entry.folder.name, "bytes": entry.num_bytes, **entry.parts} for entry in entries], 0


def _verify(store: FeatureCache, words: list[str]) -> tuple[Any, int]:
    entries = store.entries()
    broken = [str(path) for entry in entries for path in entry.shelf().verify()]
    for path in broken:
        print(f"{path} is broken, and removed; its rows are computed again")
    print(f"{len(entries)} keys, {len(broken)} broken files")
    return {"keys": len(entries), "broken": broken}, _CHECK_FAILED if broken else 0


def _rm(store: FeatureCache, words: list[str]) -> tuple[Any, int]:
    from tune.features.cache import remove

    entries = store.entries()
    if not words:
        raise ConfigError(Problem("tune cache rm", "say which: starts of keys, as tune cache ls shows them, or all"))
    unknown = [word for word in words if word != "all" and not any(_is(entry, word) for entry in entries)]
    if unknown:
        raise ConfigError(*(Problem(word, "no key begins so; see tune cache ls", "command line") for word in unknown))
    gone = [entry for entry in entries if any(word == "all" or _is(entry, word) for word in words)]
    for entry in gone:
        remove(entry)
    size = sum(entry.num_bytes for entry in gone)
    print(f"removed {len(gone)} keys, {size / 1e6:,.1f} MB")
    return {"removed": len(gone), "bytes": size}, 0


def _build(asked: argparse.Namespace) -> int:
    """Fill the cache for a run, augmented views too, and stop."""
    from tune.cli.run import check_all
    from tune.config.compose import ConfigTree, compose

    if asked.dir:
        raise ConfigError("--dir: a run has its own key for it: cache.dir=FOLDER")
    tree = ConfigTree.find(asked.config_dir)
    composed = compose(tree, asked.words)
    check_all([composed], tree, asked.allow)
    if composed.stages:
        raise ConfigError(
            "stages: a chain trains what its stages stand on, so there is nothing to build before it runs"
        )
    from tune.train.adapt.beside import before_training
    from tune.train.prepare import prepare

    frozen = prepare(before_training(composed.cfg)[0]).frozen
    say(f"cache     {frozen.describe() or 'nothing is frozen'}")
    frozen.fill(say)
    frozen.fill_views()
    answer = frozen.describe()
    print(answer or "nothing is frozen")
    if asked.json:
        print(json.dumps({"status": "done", "cache": answer}))
    return 0


def _is(entry: Entry, word: str) -> bool:
    return entry.folder.name.startswith(word)
