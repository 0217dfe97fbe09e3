"""The signature of a class or function that a YAML names, read from its source without importing it.

Importing torch takes more than a second; reading the one file that a name stands in takes milliseconds.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tune.config.files import shown

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
MAX_STEPS = 12  # re-exports and base classes followed before we give up


@dataclass(eq=False)
class Module:
    """A parsed source file.

    Args:
        name: dotted name.
        path: the file.
        tree: its syntax tree.
        types: what `tune.config.signature.types` has compiled from it, by the place of the annotation.
    """

    name: str
    path: Path
    tree: ast.Module
    types: dict[tuple[int, int], object] = field(default_factory=dict)

    @cached_property
    def names(self) -> dict[str, ast.AST | str]:
        """What each top-level name stands for: a definition, an assigned expression, or the dotted name it imports."""
        return _names(self.tree.body, self)


@dataclass(frozen=True)
class Parameter:
    """One argument. `default` is None when it is required."""

    name: str
    annotation: ast.expr | None
    default: ast.expr | None
    module: Module

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is None

    @property
    def default_value(self) -> object:
        """The default where it is written out; an Ellipsis where it must be computed."""
        written = self.default
        if isinstance(written, ast.Call) and written.keywords and isinstance(written.keywords[0].value, ast.Lambda):
            written = written.keywords[0].value.body  # of a dataclass: field(default_factory=lambda: [1, 2])
        try:
            return ast.literal_eval(written) if written is not None else ...
        except ValueError:
            return ...


@dataclass(frozen=True)
class Signature:
    """What can be given to a class or function.

    Args:
        name: dotted name of the definition itself, after every re-export.
        parameters: by name, in order, without `self`.
        is_open: whether it takes any other name too (`**kwargs`).
    """

    name: str
    parameters: dict[str, Parameter]
    is_open: bool


@dataclass(frozen=True)
class Found:
    """A definition and the module that holds it."""

    module: Module
    node: Definition

    @property
    def name(self) -> str:
        """Dotted name of the definition."""
        return f"{self.module.name}.{self.node.name}"


_modules: dict[tuple[Path, int], Module] = {}


def find(target: str) -> Found | str:
    """The definition behind a dotted name, or the sentence that says why there is none."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = module_of(".".join(parts[:cut]))
        if module is not None:
            rest = parts[cut:]
            if len(rest) > 1:
                return f"there is no module {'.'.join(parts[: cut + 1])}"
            found = lookup(module, rest[0])
            return found or f"{shown(module.path)} defines no class or function {rest[0]!r}"
        path = _file_of(".".join(parts[:cut]))
        if path is not None:
            return f"{shown(path)} is no valid Python{_line_of_error(path)}"
    return f"there is no module {'.'.join(parts[:-1]) or target}"


def module_of(name: str) -> Module | None:
    """The parsed source of a module, None if there is none. Imports nothing, not even its parents."""
    path = _file_of(name)
    if path is None:
        return None
    key = (path, path.stat().st_mtime_ns)
    if key not in _modules:
        try:
            _modules[key] = Module(name, path, ast.parse(path.read_bytes()))
        except (SyntaxError, ValueError):
            return None
    return _modules[key]


def lookup(module: Module, name: str, steps: int = 0) -> Found | None:
    """A class or function of a module, through re-exports."""
    value = module.names.get(name)
    if isinstance(value, Definition):
        return Found(module, value)
    if isinstance(value, ast.Name) and steps < MAX_STEPS:
        return lookup(module, value.id, steps + 1)
    if isinstance(value, str) and steps < MAX_STEPS:
        origin, _, last = value.rpartition(".")
        other = module_of(origin) if origin else None
        return lookup(other, last, steps + 1) if other is not None else None
    return None


def signature(found: Found) -> Signature:
    """The arguments of a definition; a class has those of its `__init__` or its fields, its own or inherited."""
    if not isinstance(found.node, ast.ClassDef):
        return _from_function(found.name, found.node, found.module, skip=0)
    for holder in _lineage(found):
        methods = [item for item in holder.node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if methods:
            return _from_function(found.name, methods[-1], holder.module, skip=1)
        if is_dataclass(holder.node):
            return Signature(found.name, _fields(holder), is_open=False)
    return Signature(found.name, {}, is_open=False)


def is_dataclass(node: ast.AST) -> bool:
    """Whether a class carries the decorator `dataclass`."""
    if not isinstance(node, ast.ClassDef):
        return False
    names = [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]
    return any(getattr(name, "attr", getattr(name, "id", "")) == "dataclass" for name in names)


def inherits(found: Found, name: str) -> bool:
    """Whether a class stands below another of that dotted name, as far as sources are found."""
    return any(holder.name == name for holder in _lineage(found)[1:])


def _lineage(found: Found) -> list[Found]:
    """The class and those it inherits from, nearest first, as far as their source is found."""
    line, queue = [], [found]
    while queue and len(line) < MAX_STEPS:
        current = queue.pop(0)
        line.append(current)
        for base in current.node.bases if isinstance(current.node, ast.ClassDef) else []:
            above = _base(current.module, base)
            if above is not None and isinstance(above.node, ast.ClassDef):
                queue.append(above)
    return line


def _base(module: Module, base: ast.expr) -> Found | None:
    if isinstance(base, ast.Subscript):
        base = base.value
    if isinstance(base, ast.Attribute):
        dotted = ast.unparse(base)
        root, _, rest = dotted.partition(".")
        imported = module.names.get(root)
        above = find(f"{imported}.{rest}") if isinstance(imported, str) else ""
        return above if isinstance(above, Found) else None
    return lookup(module, base.id) if isinstance(base, ast.Name) else None


def _fields(holder: Found) -> dict[str, Parameter]:
    fields: dict[str, Parameter] = {}
    for each in reversed(_lineage(holder)):
        for item in each.node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                fields[item.target.id] = Parameter(item.target.id, item.annotation, item.value, each.module)
    return fields


def _from_function(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, module: Module, skip: int) -> Signature:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True)][skip:]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parameters = {arg.arg: Parameter(arg.arg, arg.annotation, default, module) for arg, default in pairs}
    return Signature(name, parameters, is_open=arguments.kwarg is not None)


def _names(body: list[ast.stmt], module: Module) -> dict[str, ast.AST | str]:
    names: dict[str, ast.AST | str] = {}
    for item in body:
        if isinstance(item, Definition):
            names[item.name] = item
        elif isinstance(item, ast.Assign):
            names |= {target.id: item.value for target in item.targets if isinstance(target, ast.Name)}
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
            names[item.target.id] = item.value
        elif isinstance(item, ast.Import):
            for alias in item.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(item, ast.ImportFrom):
            origin = _absolute(item, module)
            names |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in item.names}
        elif isinstance(item, ast.If):
            names |= _names([*item.orelse, *item.body], module)
        elif isinstance(item, ast.Try):
            names |= _names([*item.body, *item.orelse], module)
    return names


def _absolute(item: ast.ImportFrom, module: Module) -> str:
    if not item.level:
        return item.module or ""
    package = module.name.split(".")
    drop = item.level - (1 if module.path.name == "__init__.py" else 0)
    above = package[: len(package) - drop] if drop else package
    return ".".join([*above, *([item.module] if item.module else [])])


def _line_of_error(path: Path) -> str:
    try:
        ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f", line {error.lineno}: {error.msg}"
    except ValueError as error:
        return f": {error}"
    return ""


def _file_of(name: str) -> Path | None:
    top, *rest = name.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        return None
    folders = _folders_of(top)
    for depth, part in enumerate([top, *rest]):
        is_last = depth == len(rest)
        for folder in folders:
            if is_last and (folder / f"{part}.py").is_file():
                return folder / f"{part}.py"
            if is_last and (folder / part / "__init__.py").is_file():
                return folder / part / "__init__.py"
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
    return None


def _folders_of(top: str) -> list[Path]:
    """Folders that hold the top-level name, as Python would find it; the working directory comes last."""
    try:
        spec = importlib.util.find_spec(top)
    except (ValueError, ImportError):
        spec = None
    if spec is None:
        return [Path.cwd()]
    if spec.submodule_search_locations:
        return [Path(location).parent for location in spec.submodule_search_locations]
    return [Path(spec.origin).parent] if spec.origin and spec.has_location else []
