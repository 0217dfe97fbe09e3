"""What a value of a config may be, and how to say that it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tune.config.signature.source import Signature
from tune.ranges import Range

Complaint = tuple[str, str]
"""Where inside the value ("" for itself, ".0", ".seed"), and what is wrong."""

UNKNOWN = "unknown"
"""The complaint about a key that is no field; whoever reports it knows which one was meant."""


class Type:
    """Anything at all; the others say less."""

    text = "anything"

    def complaints(self, value: Any) -> Iterator[Complaint]:
        """Everything in `value` that the type does not allow."""
        yield from ()


@dataclass(frozen=True)
class Scalar(Type):
    """One of YAML's plain values."""

    kind: str

    @property
    def text(self) -> str:
        return {
            "int": "a whole number",
            "float": "a number",
            "str": "text",
            "bool": "true or false",
            "None": "null",
        }[self.kind]

    def complaints(self, value: Any) -> Iterator[Complaint]:
        if self.kind == "float":
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                yield "", _not(self, value)
            elif not math.isfinite(value):
                yield "", f"must be a finite number, not {written(value)}"
        elif self.kind == "int":
            if isinstance(value, bool) or not isinstance(value, int):
                yield "", _not(self, value)
        elif self.kind == "None":
            if value is not None:
                yield "", _not(self, value)
        elif not isinstance(value, str if self.kind == "str" else bool):
            hint = " (quote it to make it text)" if self.kind == "str" and isinstance(value, (int, float)) else ""
            yield "", _not(self, value) + hint


@dataclass(frozen=True)
class Choice(Type):
    """A Literal."""

    values: tuple[Any, ...]

    @property
    def text(self) -> str:
        values = ", ".join(written(value) for value in self.values)
        return f"one of {values}" if len(self.values) > 1 else values

    def complaints(self, value: Any) -> Iterator[Complaint]:
        if not any(value == each and type(value) is type(each) for each in self.values):
            yield "", _not(self, value)


@dataclass(frozen=True)
class Ranged(Type):
    """A number inside an interval."""

    number: Type
    range: Range

    @property
    def text(self) -> str:
        return f"{self.number.text} in {self.range.text}"

    def complaints(self, value: Any) -> Iterator[Complaint]:
        wrong = list(self.number.complaints(value))
        yield from wrong
        if not wrong and isinstance(value, (int, float)) and value not in self.range:
            yield "", _not(self, value)


@dataclass(frozen=True)
class ListOf(Type):
    """A list, or a tuple with one type per place."""

    items: tuple[Type, ...]
    is_fixed: bool

    @property
    def text(self) -> str:
        if self.is_fixed:
            return f"a list of {len(self.items)}: {', '.join(item.text for item in self.items)}"
        return "a list" if type(self.items[0]) is Type else f"a list, each {self.items[0].text}"

    def complaints(self, value: Any) -> Iterator[Complaint]:
        if not isinstance(value, list) or (self.is_fixed and len(value) != len(self.items)):
            yield "", _not(self, value)
            return
        types = self.items if self.is_fixed else self.items * len(value)
        for number, (item, each) in enumerate(zip(value, types, strict=False)):
            yield from ((f".{number}{place}", text) for place, text in each.complaints(item))


@dataclass(frozen=True)
class DictOf(Type):
    """A mapping from any key to one type."""

    value: Type
    text = "a mapping of keys to values"

    def complaints(self, value: Any) -> Iterator[Complaint]:
        if not isinstance(value, dict):
            yield "", _not(self, value)
            return
        for key, item in value.items():
            yield from ((f".{key}{place}", text) for place, text in self.value.complaints(item))


@dataclass(frozen=True)
class Fields(Type):
    """A mapping with the fields of a dataclass, each of its own type."""

    fields: Signature
    types: dict[str, Type]

    @property
    def text(self) -> str:
        return f"a mapping with {', '.join(self.fields.parameters)}"

    def complaints(self, value: Any) -> Iterator[Complaint]:
        if not isinstance(value, dict):
            yield "", _not(self, value)
            return
        for key, item in value.items():
            if key not in self.fields.parameters:
                yield f".{key}", UNKNOWN
            else:
                yield from ((f".{key}{place}", text) for place, text in self.types[key].complaints(item))
        for key, parameter in self.fields.parameters.items():
            if parameter.is_required and key not in value:
                yield f".{key}", "needs a value"


@dataclass(frozen=True)
class Either(Type):
    """A union."""

    types: tuple[Type, ...]

    @property
    def text(self) -> str:
        return " or ".join(each.text for each in self.types)

    def complaints(self, value: Any) -> Iterator[Complaint]:
        wrong = [list(each.complaints(value)) for each in self.types]
        if all(wrong):
            deeper = [each for each in wrong if any(place for place, _ in each)]
            ranged = [each for each, kind in zip(wrong, self.types, strict=True) if isinstance(kind, Ranged)]
            is_number = isinstance(value, (int, float)) and len(ranged) == 1
            yield from (deeper[0] if deeper else ranged[0] if is_number else [("", _not(self, value))])


def written(value: Any) -> str:
    """A value as the user would type it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:e}"
        mantissa, _, exponent = short.partition("e")
        is_small = value != 0 and abs(value) < 0.01 and math.isfinite(value)
        if is_small and float(f"{mantissa}e{exponent}") == value:
            return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(written(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    return str(value)


def _not(wanted: Type, value: Any) -> str:
    shown = repr(value) if isinstance(value, str) else written(value)
    return f"must be {wanted.text}, not {shown if len(shown) < 80 else shown[:77] + '...'}"
