"""Type annotations, read from source and turned into types; annotations are the schema.

int, float, str, bool, None, list, tuple, dict, unions, Literal, `Annotated[float, Range("(0, 1]")]`, dataclasses, and
names assigned to any of these. Whatever else an annotation says is not judged here.
"""

from __future__ import annotations

import ast

from tune.config.signature.source import Found, Module, Signature, find, is_dataclass, lookup, module_of, signature
from tune.config.signature.types import Choice, DictOf, Either, Fields, ListOf, Ranged, Scalar, Type
from tune.ranges import Range

MAX_DEPTH = 20


def type_of(owner: Signature, name: str) -> Type:
    """The type of one argument."""
    parameter = owner.parameters[name]
    if parameter.annotation is None:
        return Type()
    place = (parameter.annotation.lineno, parameter.annotation.col_offset)
    known = parameter.module.types
    if place not in known:
        known[place] = _compile(parameter.annotation, parameter.module, 0)
    found = known[place]
    assert isinstance(found, Type)
    return found


_SCALARS = {"int": "int", "float": "float", "str": "str", "bool": "bool", "Path": "str", "PathLike": "str"}
_LISTS = {"list", "List", "Sequence", "Iterable", "tuple", "Tuple", "set", "frozenset"}
_DICTS = {"dict", "Dict", "Mapping"}


def _compile(node: ast.expr, module: Module, depth: int) -> Type:
    if depth > MAX_DEPTH:
        return Type()
    if isinstance(node, ast.Constant):
        if node.value is None:
            return Scalar("None")
        return (
            _compile(ast.parse(node.value, mode="eval").body, module, depth + 1)
            if isinstance(node.value, str)
            else Type()
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right], module, depth)
    if isinstance(node, ast.Subscript):
        return _subscript(node, module, depth)
    if isinstance(node, (ast.Name, ast.Attribute)):
        return _named(node, module, depth)
    return Type()


def _subscript(node: ast.Subscript, module: Module, depth: int) -> Type:
    head = ast.unparse(node.value).rpartition(".")[2]
    arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if head == "Literal":
        return Choice(tuple(ast.literal_eval(each) for each in arguments))
    if head == "Annotated":
        inner = _compile(arguments[0], module, depth + 1)
        for extra in arguments[1:]:
            if isinstance(extra, ast.Call) and ast.unparse(extra.func).endswith("Range"):
                return _ranged(inner, Range(ast.literal_eval(extra.args[0])))
        return inner
    if head == "Optional":
        return _union([arguments[0], ast.Constant(None)], module, depth)
    if head == "Union":
        return _union(arguments, module, depth)
    if head in ("tuple", "Tuple") and not (len(arguments) == 2 and ast.unparse(arguments[1]) == "..."):
        return ListOf(tuple(_compile(each, module, depth + 1) for each in arguments), is_fixed=True)
    if head in _LISTS:
        return ListOf((_compile(arguments[0], module, depth + 1),), is_fixed=False)
    if head in _DICTS:
        return DictOf(_compile(arguments[-1], module, depth + 1))
    return Type()


def _ranged(inner: Type, interval: Range) -> Type:
    """The range applies to the numbers of a union, of a list, or to the type itself."""
    if isinstance(inner, Either):
        return Either(tuple(_ranged(each, interval) for each in inner.types))
    if isinstance(inner, ListOf):
        return ListOf(tuple(_ranged(each, interval) for each in inner.items), inner.is_fixed)
    return Ranged(inner, interval) if isinstance(inner, Scalar) and inner.kind in ("int", "float") else inner


def _union(nodes: list[ast.expr], module: Module, depth: int) -> Type:
    types: list[Type] = []
    for node in nodes:
        each = _compile(node, module, depth + 1)
        types += each.types if isinstance(each, Either) else [each]
    return Type() if any(type(each) is Type for each in types) else Either(tuple(types))


def _named(node: ast.Name | ast.Attribute, module: Module, depth: int) -> Type:
    name = ast.unparse(node).rpartition(".")[2]
    if name in _SCALARS:
        return Scalar(_SCALARS[name])
    if name in _LISTS:
        return ListOf((Type(),), is_fixed=False)
    if name in _DICTS:
        return DictOf(Type())
    if isinstance(node, ast.Attribute):
        return Type()
    value = module.names.get(name)
    if isinstance(value, ast.expr):
        return _compile(value, module, depth + 1)
    if isinstance(value, str):
        return _imported(value, depth)
    found = lookup(module, name)
    return _fields(found, depth) if found is not None else Type()


def _imported(dotted: str, depth: int) -> Type:
    """A name from another module: one of our dataclasses, or one of our aliases such as `Fraction`."""
    if not dotted.startswith("tune."):
        return Type()
    found = find(dotted)
    if isinstance(found, Found):
        return _fields(found, depth)
    origin, _, name = dotted.rpartition(".")
    module = module_of(origin)
    value = module.names.get(name) if module is not None else None
    return _compile(value, module, depth + 1) if module is not None and isinstance(value, ast.expr) else Type()


def _fields(found: Found, depth: int) -> Type:
    """A class as a type: its fields if it is a dataclass, anything otherwise."""
    if not is_dataclass(found.node):
        return Type()
    fields = signature(found)
    types = {
        name: _compile(each.annotation, each.module, depth + 1) if each.annotation is not None else Type()
        for name, each in fields.parameters.items()
    }
    return Fields(fields, types)
