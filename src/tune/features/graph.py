"""Surgery on a traced backbone: which nodes cross the cut, and a module from the nodes on either side of it."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from timm.layers.drop import DropPath
from timm.models import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence, Set


class Uncut(Exception):
    """The backbone cannot be cut; the text says why, as part of a sentence."""


@dataclass(frozen=True)
class Entry:
    """One tensor that crosses the cut.

    Args:
        shape: of it for one image, behind the first dimension.
        rows: rows of its first dimension that belong to one image: 1, or more where a backbone cuts it into windows.
    """

    shape: tuple[int, ...]
    rows: int

    @property
    def numel(self) -> int:
        """Numbers for one image."""
        return self.rows * math.prod(self.shape)


class _Tracer(fx.Tracer):
    """Looks into timm's modules, but not into what timm knows that torch.fx cannot follow, nor into norms."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()), param_shapes_constant=True)
        self.opaque = tuple(get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*self.opaque, _BatchNorm, DropPath)) or super().is_leaf_module(m, module_qualified_name)


def trace(backbone: nn.Module) -> fx.Graph:
    """The graph of a backbone in its present modes.

    Raises:
        Uncut: if torch.fx cannot follow it.
    """
    try:
        return _Tracer().trace(backbone)
    except Exception as error:  # whatever a model does that a proxy cannot
        raise Uncut(f"torch.fx cannot trace it ({type(error).__name__}: {str(error).splitlines()[0]})") from error


def changes_in_training(module: nn.Module) -> bool:
    """Whether a module gives other values in its present mode than in eval mode, or moves statistics."""
    if not module.training:
        return False
    if isinstance(module, (_DropoutNd, DropPath)):
        return bool(getattr(module, "p", 0) or getattr(module, "drop_prob", 0))
    return isinstance(module, _BatchNorm)


def crossing_nodes(backbone: nn.Module, graph: fx.Graph, live: Set[str], trained: Set[str]) -> list[fx.Node] | None:
    """Nodes of the images' way, before anything that trains, that are used behind it; None if images themselves are."""
    from_images: set[fx.Node] = set()
    moving: set[fx.Node] = set()
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if node.op == "placeholder" or any(other in from_images for other in inputs):
            from_images.add(node)
        target = str(node.target)
        is_own = (
            node.op == "call_module" and any(name == target or name.startswith(f"{target}.") for name in live)
        ) or (node.op == "get_attr" and target in trained)
        if is_own or any(other in moving for other in inputs):
            moving.add(node)
    kept = from_images - moving
    crossing = [
        node
        for node in graph.nodes
        if node in kept and any(user in moving or user.op == "output" for user in node.users)
    ]
    works = any(node.op == "call_module" and _has_parameters(backbone, node) for node in kept)
    return None if not works or any(node.op == "placeholder" for node in crossing) else crossing


def _has_parameters(backbone: nn.Module, node: fx.Node) -> bool:
    return any(True for _ in backbone.get_submodule(str(node.target)).parameters())


@dataclass(frozen=True)
class _PerImage:
    """An integer that is `factor` times the number of images."""

    factor: Fraction


@dataclass(frozen=True)
class _Constant:
    """A value that the images do not change."""

    value: Any


def roles_of(
    backbone: nn.Module, crossing: Sequence[fx.Node], two_images: Tensor, three_images: Tensor
) -> dict[str, Any]:
    """What each node that crosses the cut is, by its name, from two batches of 2 and 3 images."""
    module = module_of(backbone, crossing)
    with torch.no_grad():
        two, three = module(two_images), module(three_images)
    return {node.name: _role(a, b, node.name) for node, a, b in zip(crossing, two, three, strict=True)}


def _role(two: Any, three: Any, name: str) -> Any:
    if isinstance(two, Tensor):
        same = two.shape == three.shape
        if same and torch.equal(two, three):
            return _Constant(two)
        if not same and two.is_floating_point() and two.shape[1:] == three.shape[1:] and len(two) * 3 == len(three) * 2:
            return Entry(tuple(two.shape[1:]), len(two) // 2)
    elif isinstance(two, (tuple, list)) and len(two) == len(three):
        kind = list if isinstance(two, list) else tuple  # a torch.Size holds integers only, and its roles are none
        return kind(_role(a, b, name) for a, b in zip(two, three, strict=True))
    elif type(two) is type(three) and two == three:
        return _Constant(two)
    elif isinstance(two, int) and two * 3 == three * 2:
        return _PerImage(Fraction(two, 2))
    raise Uncut(f"{name}, which crosses the cut, depends on the batch in a way that is not known")


def module_of(root: nn.Module, outputs: Sequence[fx.Node]) -> fx.GraphModule:
    """A module that computes some nodes of a graph, as a tuple; it shares `root`'s modules.

    What follows the last of them in the graph is left out, also where it changes one of them in place.
    """
    graph, copies = fx.Graph(), {}
    order = {node: number for number, node in enumerate(outputs[0].graph.nodes)}
    last = max(order[node] for node in outputs)
    needed = {node for node in _needed(outputs) if order[node] <= last}
    for node in outputs[0].graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in outputs))
    return fx.GraphModule(_attributes(root, graph), graph)


def suffix_of(root: nn.Module, whole: fx.Graph, roles: dict[str, Any]) -> fx.GraphModule:
    """The part of a graph behind the nodes that cross the cut, which become its inputs; it shares `root`'s modules."""
    graph, copies, constants = fx.Graph(), {}, {}
    inputs = {name: graph.placeholder(name) for name, role in roles.items() if isinstance(role, Entry)}
    first = next(iter(inputs))

    def value(role: Any) -> Any:
        if isinstance(role, _PerImage):
            factor = role.factor / roles[first].rows
            product = graph.call_function(
                operator.mul, (graph.call_method("size", (inputs[first], 0)), factor.numerator)
            )
            return graph.call_function(operator.floordiv, (product, factor.denominator))
        if isinstance(role, _Constant) and isinstance(role.value, Tensor):
            constants[f"constant_{len(constants)}"] = role.value
            return graph.create_node("get_attr", f"constant_{len(constants) - 1}")
        return role.value if isinstance(role, _Constant) else type(role)(value(each) for each in role)

    (output,) = (node for node in whole.nodes if node.op == "output")
    needed = _needed([output], stop=roles)
    for node in whole.nodes:
        if node.name in roles:
            copies[node] = inputs.get(node.name) or value(roles[node.name])
        elif node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule({**_attributes(root, graph, constants), **constants}, graph)


def _needed(outputs: Sequence[fx.Node], stop: Collection[str] = ()) -> set[fx.Node]:
    """The nodes that outputs are computed from, and themselves; not those called `stop`, nor what lies before them."""
    needed: set[fx.Node] = set()
    open_ones = list(outputs)
    while open_ones:
        node = open_ones.pop()
        if node not in needed and node.name not in stop:
            needed.add(node)
            open_ones += node.all_input_nodes
            # What is changed in place is used without being asked for its result.
            open_ones += [user for user in node.users if _is_in_place(user)]
    return needed


def _is_in_place(node: fx.Node) -> bool:
    return node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__")


def _attributes(root: nn.Module, graph: fx.Graph, but: Collection[str] = ()) -> dict[str, Any]:
    targets = {str(node.target) for node in graph.nodes if node.op in ("call_module", "get_attr")}
    return {target: operator.attrgetter(target)(root) for target in targets.difference(but)}
