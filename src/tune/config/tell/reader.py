"""Who reads a key: the argument of a class or function that it becomes, found in the source."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tune.config import files, schema
from tune.config.signature.annotations import type_of
from tune.config.signature.source import Found, Signature, find, signature
from tune.config.signature.types import DictOf, Either, Fields, Type


@dataclass(frozen=True)
class Reader:
    """An argument.

    Args:
        owner: dotted name of the class or function.
        name: of the argument.
        takes: the values that it allows, in words.
        default: what it is when nobody sets it; an Ellipsis where somebody must, or where it is computed.
        where: FILE:LINE of the argument.
        about: its sentence in the docstring, "" without one.
    """

    owner: str
    name: str
    takes: str
    default: Any
    where: str
    about: str


def find_reader(cfg: dict[str, Any], groups: list[str], key: str) -> Reader | None:
    """Who reads a dotted key of a composed config; None for a group, and for a key that nothing takes.

    Below an argument that takes any mapping (`freeze.rules`, `head.options`) it is that argument.

    Args:
        cfg: the config.
        groups: of the run.
        key: may be one that nobody has set.
    """
    first, *rest = key.split(".")
    if first not in groups:
        return _walk([_signature(schema.RUN)], cfg, "", [first, *rest])
    return _walk(owners_of(cfg.get(first), first), cfg.get(first), first, rest) if rest else None


def owners_of(node: Any, key: str) -> list[Signature]:
    """What takes the keys of a node: the class it names, and the dataclass of keys that all such nodes share."""
    target = node.get("_target_", schema.WITHOUT_TARGET.get(key)) if isinstance(node, dict) else None
    found = find(target) if isinstance(target, str) else ""
    own = [signature(found)] if isinstance(found, Found) else []
    return own + ([_signature(schema.SHARED[key])] if key in schema.SHARED else [])


def sentence_of(dotted: str) -> str:
    """First line of the docstring of a class or function, "" without one."""
    found = find(dotted)
    return (_docstring(found).splitlines() or [""])[0] if isinstance(found, Found) else ""


def comment_at(where: str) -> str:
    """The comment behind the value in a line, by its FILE:LINE; "" for the command line and where there is none."""
    name, _, number = where.rpartition(":")
    if not number.isdigit():
        return ""
    line = Path(name).read_text(encoding="utf-8").splitlines()[int(number) - 1]
    found = re.search(r"\s#\s+(.*?)\s*$", line)
    return found[1] if found else ""


def _walk(owners: list[Signature], node: Any, above: str, parts: list[str]) -> Reader | None:
    name, *rest = parts
    owner = next((each for each in owners if name in each.parameters), None)
    if owner is None:
        return None
    value = node.get(name) if isinstance(node, dict) else None
    deeper = _deeper(type_of(owner, name), value, f"{above}.{name}".lstrip("."), rest) if rest else None
    return deeper or _reader(owner, name)


def _deeper(kind: Type, value: Any, key: str, rest: list[str]) -> Reader | None:
    """Who reads a key below an argument: a class that its value names, or the dataclass that it is of."""
    kinds = kind.types if isinstance(kind, Either) else (kind,)
    fields = [each.fields for each in kinds if isinstance(each, Fields)]
    if owners := owners_of(value, key) + fields:
        return _walk(owners, value, key, rest)
    values = [each.value for each in kinds if isinstance(each, DictOf)]
    if values and len(rest) > 1:
        name, *rest = rest
        return _deeper(values[0], value.get(name) if isinstance(value, dict) else None, f"{key}.{name}", rest)
    return None


def _reader(owner: Signature, name: str) -> Reader:
    parameter, found = owner.parameters[name], find(owner.name)
    written = parameter.annotation or parameter.default
    where = f"{files.shown(parameter.module.path)}:{written.lineno}" if written is not None else ""
    about = _arguments(_docstring(found)).get(name, "") if isinstance(found, Found) else ""
    return Reader(owner.name, name, type_of(owner, name).text, parameter.default_value, where, about)


def _docstring(found: Found) -> str:
    """Of a definition, with what stands in its `__init__` behind it."""
    texts = [ast.get_docstring(found.node) or ""]
    if isinstance(found.node, ast.ClassDef):
        inits = [item for item in found.node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        texts += [ast.get_docstring(item) or "" for item in inits]
    return "\n\n".join(filter(None, map(inspect.cleandoc, texts)))


def _arguments(docstring: str) -> dict[str, str]:
    """The entries below `Args:`, each on one line."""
    found: dict[str, str] = {}
    name = ""
    for section in re.findall(r"^Args:\n((?:[ ]{4}.*\n?|\n)*)", docstring, re.MULTILINE):
        for line in section.splitlines():
            entry = re.match(r"^ {4}(\w+)(?: \([^)]*\))?: (.*)$", line)
            if entry:
                name = entry[1]
                found[name] = entry[2]
            elif name and line.strip():
                found[name] += f" {line.strip()}"
    return found


def _signature(dotted: str) -> Signature:
    found = find(dotted)
    assert isinstance(found, Found), found
    return signature(found)
