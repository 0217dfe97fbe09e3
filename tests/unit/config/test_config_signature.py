from __future__ import annotations

import inspect

import pytest

from tune.config.names import timm_models, timm_optimizers, wrong_model, wrong_optimizer
from tune.config.signature.annotations import type_of
from tune.config.signature.source import Found, find, signature
from tune.config.signature.types import written

TYPES = """
    from __future__ import annotations
    import typing
    from dataclasses import dataclass, field
    from pathlib import Path
    from typing import Annotated, Any, Dict, List, Literal, Optional, Union

    from elsewhere import Imported
    from tune.ranges import Range

    Share = Annotated[float, Range("[0, 1]")]

    @dataclass
    class Part:
        rows: int
        name: str = "x"

    @dataclass
    class More(Part):
        share: Share = 0.5
        items: list = field(default_factory=list)

    class Base:
        def __init__(self, size: int): ...

    class Child(Base): ...

    class Takes:
        def __init__(
            self,
            a: int | None,
            b: Optional[Literal["x", 2]] = None,
            c: Union[List[int], Dict[str, float]] = (),
            d: tuple[int, float] = (1, 2),
            e: tuple[int, ...] = (),
            f: Share | None = None,
            g: "list[Share]" = (),
            h: More | None = None,
            i: Imported = None,
            j: typing.Any = None,
            k: Path = ".",
            l: Annotated[int, Range("[1, inf)")] | Literal["all"] = 1,
            m=None,
        ): ...

    def function(a, /, b, *, c: bool = False, **rest): ...
"""


@pytest.fixture
def takes(project):
    project.file("kinds.py", TYPES)
    found = find("kinds.Takes")
    assert isinstance(found, Found)
    return signature(found)


def complaints(takes, name, value):
    return list(type_of(takes, name).complaints(value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", None), ("a", 3), ("b", "x"), ("b", 2), ("b", None), ("c", [1, 2]), ("c", {"a": 1.0}), ("d", [1, 2.5]),
        ("e", []), ("e", [1, 2, 3]), ("f", 0), ("f", 1.0), ("f", None), ("g", [0.5]), ("h", {"rows": 1}),
        ("h", {"rows": 1, "share": 0.1, "items": ["a"]}), ("i", object()), ("j", object()), ("k", "x/y"), ("l", 4),
        ("l", "all"), ("m", {}),
    ],
)  # fmt: skip
def test_what_an_annotation_allows_passes(takes, name, value):
    assert complaints(takes, name, value) == []


@pytest.mark.parametrize(
    ("name", "value", "place", "said"),
    [
        ("a", "3", "", "must be a whole number or null, not '3'"),
        ("a", True, "", "not true"),
        ("b", "y", "", "must be one of x, 2 or null"),
        ("b", "2", "", "must be one of"),
        ("c", [1, "a"], ".1", "must be a whole number, not 'a'"),
        ("c", {"a": "b"}, ".a", "must be a number, not 'b'"),
        ("d", [1], "", "must be a list of 2: a whole number, a number, not [1]"),
        ("d", [1.5, 1], ".0", "must be a whole number"),
        ("f", 1.5, "", "must be a number in [0, 1], not 1.5"),
        ("f", float("nan"), "", "must be a finite number"),
        ("g", [0.5, -1], ".1", "in [0, 1]"),
        ("h", {"rows": 1, "shares": 2}, ".shares", "unknown"),
        ("h", {"share": 0.5}, ".rows", "needs a value"),
        ("h", {"rows": 1, "share": 2}, ".share", "in [0, 1]"),
        ("h", 3, "", "must be a mapping with rows, name, share, items or null, not 3"),
        ("k", 3, "", "must be text"),
        ("l", 0, "", "must be a whole number in [1, inf), not 0"),
        ("l", "some", "", "must be a whole number in [1, inf) or all"),
    ],
)
def test_what_an_annotation_does_not_allow_is_told_with_its_place(takes, name, value, place, said):
    ((where, text),) = complaints(takes, name, value)
    assert where == place
    assert said in text


def test_arguments_come_from_init_fields_or_a_class_above(project, takes):
    def names(target):
        found = find(target)
        assert isinstance(found, Found)
        return list(signature(found).parameters)

    assert names("kinds.Child") == ["size"]
    assert names("kinds.More") == ["rows", "name", "share", "items"]
    assert names("kinds.function") == ["a", "b", "c"]
    found = find("kinds.function")
    assert isinstance(found, Found)
    assert signature(found).is_open
    assert [name for name, each in takes.parameters.items() if each.is_required] == ["a"]


def test_a_name_is_followed_through_every_re_export(project):
    project.file("outer/__init__.py", "from .inner import Thing as Renamed\nfrom outer.inner import Thing\n")
    project.file("outer/inner/__init__.py", "from ..leaf import Thing\n")
    project.file("outer/leaf.py", "class Thing:\n    def __init__(self, x: int): ...\n")
    for target in ("outer.Renamed", "outer.Thing", "outer.inner.Thing"):
        found = find(target)
        assert isinstance(found, Found)
        assert found.name == "outer.leaf.Thing"


def test_a_circle_of_imports_ends(project):
    project.file("round_a.py", "from round_b import x\nclass C(C): ...\n")
    project.file("round_b.py", "from round_a import x\n")
    assert isinstance(find("round_a.x"), str)
    found = find("round_a.C")
    assert isinstance(found, Found)
    assert signature(found).parameters == {}


def test_reading_lightnings_trainer_gives_what_python_says():
    from pytorch_lightning import Trainer

    found = find("pytorch_lightning.Trainer")
    assert isinstance(found, Found)
    assert list(signature(found).parameters) == list(inspect.signature(Trainer).parameters)


def test_timms_names_are_those_that_timm_lists():
    import timm
    from timm.optim import list_optimizers

    assert set(timm.list_models()) <= timm_models()
    assert {name for name in list_optimizers() if not name.startswith("bnb")} <= timm_optimizers() | {"lookahead"}


def test_a_name_that_timm_does_not_know_is_told_with_the_nearest():
    assert wrong_model("resnet50") == wrong_model("resnet50.a1_in1k") == wrong_model("hf-hub:me/mine") == ""
    assert "Did you mean resnet50" in wrong_model("resnet5")
    assert wrong_optimizer("adamw") == ""
    assert "Did you mean" in wrong_optimizer("adamww")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-3, "1e-3"),
        (3.3e-4, "3.3e-4"),
        (0.1, "0.1"),
        (10.0, "10.0"),
        (None, "null"),
        (True, "true"),
        ([0.9, 1], "[0.9, 1]"),
    ],
)
def test_values_are_written_as_one_would_type_them(value, text):
    assert written(value) == text


@pytest.mark.parametrize("value", [1 / 3 * 1e-3, 1e-7, 123456.789e-9, 5e-324, -2e-5])
def test_a_written_number_is_the_number(value):
    assert float(written(value)) == value
