"""What may stand next on a command line, read from the folders of options, the sources of the verbs and the runs."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import tune.cli
from tune.cli.main import VERBS
from tune.config import files, schema
from tune.config.names import KNOWN, timm_models, timm_optimizers
from tune.config.signature.source import Found, Signature, find, signature
from tune.config.tree import ConfigTree
from tune.errors import ConfigError
from tune.run_dir import run_id

_OF_PARSER = {
    "configs": ["--config-dir"],
    "allow": ["--allow"],
    "output": ["--output"],
    "one": [],
    "": ["--json", "--quiet", "--traceback"],
}
"""Flags that `parser_of` adds, by the word that asks for them."""

_NAMES_FIRST = {"ls": 3, "explain": 1, "cp": 2, "cache": 1}
"""Words without a "=" that stand before the overrides of a verb."""


def candidates(words: list[str], last: str, folder: Path) -> list[str]:
    """Whole words that begin as `last` does and make sense there; with nothing at the end of one that goes on.

    Args:
        words: those before it, behind `tune`.
        last: the one at the cursor, may be empty.
        folder: that `--config-dir` and `--output` are relative to.
    """
    verb = words[0] if words and words[0] in VERBS else ""
    position = sum(not word.startswith("-") and "=" not in word for word in words[1:])
    if not words and "=" not in last and not last.startswith("-"):
        found = [*VERBS, *_keys(_tree(words), words, last)] if last else list(VERBS)
    elif last.startswith("-"):
        found = flags(verb or "run")
    elif "=" in last or last.startswith(("+", "~")):
        found = _values(_tree(words), words, last, folder)
    else:
        found = _plain(verb, position, words, last, folder)
        is_file = verb == "cat" and bool(_group_of(words))
        if "configs" in takes(verb or "run") and not is_file and position >= _NAMES_FIRST.get(verb, 0):
            found = [*found, *_keys(_tree(words), words, last)]
    return sorted({word for word in found if word.startswith(last)})


def flags(verb: str) -> list[str]:
    """The flags of a verb, read from its source."""
    found = [flag for asked in [*takes(verb), ""] for flag in _OF_PARSER[asked]]
    return [*found, *_arguments(verb)]


def takes(verb: str) -> list[str]:
    """What a verb's parser is asked to deal with: configs, allow, output."""
    calls = [call for call in _calls(verb) if _name(call) == "parser_of"]
    return [str(each.value) for call in calls for each in call.args[2:] if isinstance(each, ast.Constant)]


def _arguments(verb: str) -> list[str]:
    calls = [call for call in _calls(verb) if _name(call) == "add_argument"]
    named = [each.value for call in calls for each in call.args if isinstance(each, ast.Constant)]
    return [str(word) for word in named if str(word).startswith("--")]


def _choices(verb: str) -> list[str]:
    """Words that an argument without a name may be, as of `tune cache`."""
    found: list[str] = []
    for call in _calls(verb):
        listed = {keyword.arg: keyword.value for keyword in call.keywords}.get("choices")
        is_plain = call.args and not str(getattr(call.args[0], "value", "-")).startswith("-")
        if _name(call) == "add_argument" and is_plain and isinstance(listed, (ast.Tuple, ast.List)):
            found += [str(each.value) for each in listed.elts if isinstance(each, ast.Constant)]
    return found


def _calls(verb: str) -> Iterator[ast.Call]:
    """Calls in the function of a verb, and in those of its module that it calls."""
    path = Path(next(iter(tune.cli.__path__))) / f"{VERBS[verb][0].replace('.', '/')}.py"
    body = ast.parse(path.read_bytes()).body
    functions = {item.name: item for item in body if isinstance(item, ast.FunctionDef)}
    queue, seen = [verb.replace("-", "_")], set()
    while queue:
        name = queue.pop()
        if name not in functions or name in seen:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Call):
                yield node
                queue.append(_name(node))


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _plain(verb: str, position: int, words: list[str], last: str, folder: Path) -> list[str]:
    """Words without a `=`: experiments, options, groups, runs."""
    tree = _tree(words)
    if verb in ("validate", "cp") and (verb == "validate" or not position):
        return [*tree.experiments(), *(["all"] if verb == "validate" else [])]
    if verb == "ls":
        return [*tree.groups(), "experiments", "backbones"] if not position else []
    if verb == "cat":
        group = _group_of(words)
        return tree.options(group) if group else [*tree.groups(), *tree.experiments()]
    if verb == "explain" and not position:
        return [*tree.groups(), *(key.removesuffix("=") for key in _keys(tree, words, last))]
    if verb == "completion":
        return ["bash", "zsh", "fish"]
    if verb and "output" in takes(verb):
        return ["latest", *_runs(words, folder)]
    return _choices(verb) if verb and not position else []


def _group_of(words: list[str]) -> str:
    """The group whose file `tune cat` is to print, "" if it composes."""
    return next((word for word in words[1:] if word in (*_tree(words).groups(), "experiment")), "")


def _values(tree: ConfigTree, words: list[str], last: str, folder: Path) -> list[str]:
    """GROUP=OPTION, and KEY=VALUE where the values can be told."""
    sign = last[: len(last) - len(last.lstrip("+~"))]
    key, has_value, value = last.lstrip("+~").partition("=")
    if not has_value:
        return [f"{sign}{each}" for each in _keys(tree, words, key)]
    before = value.rpartition(",")[0] + "," if "," in value else ""  # a sweep goes on
    group = key.partition("@")[0]
    found: list[str] = []
    if tree.is_group(group):
        found = tree.options(group)
    elif key in KNOWN:
        found = sorted(timm_models() if key.startswith("backbone") else timm_optimizers())
    elif key.endswith(".weights"):
        found = ["none", "package", "hub", "run:latest", *(f"run:{name}" for name in _runs(words, folder))]
    return [f"{sign}{key}={before}{each}" for each in found]


def _keys(tree: ConfigTree, words: list[str], last: str) -> list[str]:
    """GROUP=, GROUP. and the keys of the run; behind a dot the keys of that group, by the option that is chosen."""
    group, dot, _ = last.partition(".")
    if not dot:
        run = find(schema.RUN)
        assert isinstance(run, Found)
        groups = tree.groups()
        return [
            *(f"{name}=" for name in ("experiment", *groups, *signature(run).parameters)),
            *(f"{g}." for g in groups),
        ]
    if group not in tree.groups():
        return []
    chosen = {word.lstrip("+").partition("=")[0]: word.partition("=")[2] for word in words if "=" in word}
    owners = _owners(tree, group, chosen.get(group, tree.defaults().get(group, "")))
    reserved = schema.reserved(group)
    return [f"{group}.{name}=" for owner in owners for name in owner.parameters if name not in reserved]


def _owners(tree: ConfigTree, group: str, option: str) -> list[Signature]:
    if option not in tree.options(group):
        return []
    target = files.read(tree.file(group, option)).data.get("_target_", schema.WITHOUT_TARGET.get(group, ""))
    found = [find(each) for each in (target, schema.SHARED.get(group, "")) if each]
    return [signature(each) for each in found if isinstance(each, Found)]


def _runs(words: list[str], folder: Path) -> list[str]:
    """Ids of runs, the newest last."""
    given = next((after for word, after in itertools.pairwise(words) if word == "--output"), "outputs")
    return [run_id(path.parent) for path in sorted((folder / given).glob("*/*/run.json"))]


def _tree(words: list[str]) -> ConfigTree:
    given = next((after for word, after in itertools.pairwise(words) if word == "--config-dir"), None)
    try:
        return ConfigTree(given)
    except ConfigError:
        return ConfigTree()
