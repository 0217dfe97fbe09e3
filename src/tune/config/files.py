"""One YAML file: read safely, checked where it enters, with the line of every key.

A file is scanned as events before anything is built from it, so that 250 bytes of aliases cannot cost seconds. What
Hydra would act upon (`hydra:` and everything below) is refused here, since no file gets past this module.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tune.errors import ConfigError, Problem

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML was built without libyaml: the same, slower
    from yaml import SafeLoader as _SafeLoader

FOLDERS: ContextVar[tuple[Path, ...]] = ContextVar("folders", default=())
"""The config folders that Hydra searches now, in this order; empty unless one of our trees is active."""

MAX_BYTES = 1_000_000
MAX_NODES = 20_000  # after aliases are written out; the largest experiment of ours has about 30
MAX_DEPTH = 40

_HEADER = re.compile(r"^#\s*@(\w+)\s+(\S+)\s*$")
_FLOAT = re.compile(
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


@dataclass(frozen=True)
class ConfigFile:
    """What a YAML file says and where.

    Args:
        path: the file.
        data: its content; values may hold `${…}`.
        package: of its `# @package` header, None without one.
        sentence: its first comment that is no header, "" without one.
        lines: line number of every key, by the path of keys; items of a list are "0", "1", …
    """

    path: Path
    data: dict[str, Any]
    package: str | None
    sentence: str
    lines: dict[tuple[str, ...], int] = field(repr=False)

    def where(self, *keys: str) -> str:
        """FILE:LINE of a key, of the nearest key above it if it is not there itself."""
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{shown(self.path)}:{self.lines[keys] if keys else 1}"


class _Loader(_SafeLoader):  # type: ignore[misc]  # one of two classes, by how PyYAML was built
    """YAML as Hydra reads it: 1e-3 is a number, a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if not tag.endswith((":timestamp", ":float"))]
    for first, forms in _SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
RESOLVERS = _Loader.yaml_implicit_resolvers
"""By which a plain word is read as a number, a truth value or text."""

_cache: dict[Path, tuple[tuple[int, int], ConfigFile]] = {}


def read(path: Path) -> ConfigFile:
    """Read a file, once as long as it does not change.

    Raises:
        ConfigError: if it is no YAML mapping, too large once written out, or says something to Hydra itself.
    """
    stat = path.stat()
    stamp = (stat.st_mtime_ns, stat.st_size)
    if path in _cache and _cache[path][0] == stamp:
        return _cache[path][1]
    file = _read(path, stat.st_size)
    _cache[path] = (stamp, file)
    return file


def shown(path: Path) -> str:
    """A path as the user would type it: relative to the working directory when it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def sentence(path: Path) -> str:
    """First comment of a file that is no `# @…` header; reads only as far as that."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return _sentence(lines)


def _sentence(lines: Any) -> str:
    for line in lines:
        text = line.strip()
        if text.startswith("#") and not _HEADER.match(text):
            return text.lstrip("#").strip()
        if text and not text.startswith("#"):
            break
    return ""


def _read(path: Path, size: int) -> ConfigFile:
    name = shown(path)
    if size > MAX_BYTES:
        raise ConfigError(Problem(name, f"is {size:,} bytes long; a config has at most {MAX_BYTES:,}", name))
    try:
        text = path.read_text(encoding="utf-8")
        _scan(text, name)
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[tuple[str, ...], int] = {}
        _mark(node, (), lines, name)
        data = {} if node is None else loader.construct_document(node)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(_syntax(error, name)) from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(Problem(name, "holds no `key: value` lines", f"{name}:1"))
    package, problems = _header(text, name)
    file = ConfigFile(path, data, package, _sentence(text.splitlines()), lines)
    problems += _to_hydra(file)
    if problems:
        raise ConfigError(*problems)
    return file


def _scan(text: str, name: str) -> None:
    """Count the nodes that a document has once its aliases are written out, without building one.

    Raises:
        ConfigError: if they are too many, too deep, or carry a type of their own (`!!…`).
    """
    sizes: dict[str, int] = {}  # nodes below each finished anchor
    open_nodes: list[tuple[str | None, int]] = []  # anchor, nodes counted before it
    total = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in open_nodes}:
                raise ConfigError(Problem(name, f"*{event.anchor} stands inside what it names", f"{name}:{line}"))
            total += sizes.get(event.anchor, 1)  # of an anchor that is nowhere, the loader will complain
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            if event.tag is not None:
                raise ConfigError(Problem(name, f"tags are not used here: {event.tag}", f"{name}:{line}"))
            total += 1
            if not isinstance(event, yaml.CollectionStartEvent):
                sizes |= {event.anchor: 1} if event.anchor else {}
            else:
                open_nodes.append((event.anchor, total - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes |= {anchor: total - before} if anchor else {}
        if total > MAX_NODES or len(open_nodes) > MAX_DEPTH:
            what = f"more than {MAX_NODES:,} values" if total > MAX_NODES else f"more than {MAX_DEPTH} levels"
            raise ConfigError(Problem(name, f"holds {what} once its aliases are written out", f"{name}:{line}"))


def _mark(node: yaml.Node | None, keys: tuple[str, ...], lines: dict[tuple[str, ...], int], name: str) -> None:
    """Note the line of every key, and refuse a key that stands twice in one mapping."""
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[(*keys, str(number))] = item.start_mark.line + 1
            _mark(item, (*keys, str(number)), lines, name)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value in node.value:
            key = str(key_node.value)
            path, line = (*keys, key), key_node.start_mark.line + 1
            if key in seen:
                first = lines[path]
                raise ConfigError(Problem(".".join(path), f"stands twice, first in line {first}", f"{name}:{line}"))
            seen.add(key)
            lines.setdefault(path, line)
            _mark(value, path, lines, name)


def _syntax(error: Exception, name: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        text = " ".join(part for part in (error.context, error.problem) if part)
        return Problem(name, f"is no valid YAML: {text}", f"{name}:{mark.line + 1}")
    return Problem(name, f"is no valid YAML: {str(error).splitlines()[0]}", f"{name}:1")


def _header(text: str, name: str) -> tuple[str | None, list[Problem]]:
    """The package of a file, and the complaint when another comment stands above it, where Hydra ignores it."""
    is_first = True
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if not line.lstrip().startswith("#"):
            break
        found = _HEADER.match(line.strip())
        if found and found[1] == "package":
            if is_first:
                return found[2], []
            return None, [Problem(name, f"`{line.strip()}` must stand above every other comment", f"{name}:{number}")]
        is_first = False
    return None, []


def _to_hydra(file: ConfigFile) -> list[Problem]:
    """What a file tells Hydra to do itself, by key, by package or in its defaults list."""
    advice = "nothing below `hydra` acts here: remove it"
    problems = [
        Problem(_below(key, value), advice, file.where(key)) for key, value in file.data.items() if _is_hydra(key)
    ]
    if file.package is not None and _is_hydra(file.package):
        problems.append(Problem(f"@package {file.package}", advice, file.where()))
    defaults = file.data.get("defaults") or []
    for number, entry in enumerate(defaults if isinstance(defaults, list) else []):
        word = str(next(iter(entry), "") if isinstance(entry, dict) else entry)
        group, _, package = word.split(" ")[-1].partition("@")
        if _is_hydra(group.lstrip("/")) or _is_hydra(package):
            problems.append(Problem(group or package, advice, file.where("defaults", str(number))))
    return problems


def _is_hydra(word: object) -> bool:
    return re.split(r"[./:]", str(word))[0] == "hydra"


def _below(key: str, value: Any) -> str:
    return f"{key}.{next(iter(value))}" if isinstance(value, dict) and value else str(key)
