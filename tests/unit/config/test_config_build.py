from __future__ import annotations

import sys

import pytest

from tune.config.build import build
from tune.errors import ConfigError

MODULE = """
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Split:
        val: float = 0.2
        seed: int = 0

    class Plain:
        def __init__(self, power: int = 2, num_classes: int = 0, split: Split | None = None, inner: object = None):
            self.power, self.num_classes, self.split, self.inner = power, num_classes, split, inner

    def function(scale: float, table: dict[str, int] | None = None):
        return scale, table
"""


@pytest.fixture
def module(project, monkeypatch):
    name = f"built_{project.folder.name}".replace("-", "_")
    project.file(f"{name}.py", MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(project.folder)])
    yield name
    sys.modules.pop(name, None)


def test_keys_become_arguments_and_defaults_stay(module):
    assert build({"_target_": f"{module}.Plain", "power": 3}).power == 3
    assert build({"_target_": f"{module}.Plain"}).power == 2


def test_only_the_facts_that_a_signature_names_are_passed(module):
    built = build({"_target_": f"{module}.Plain"}, num_classes=5, feature_dim=1280)
    assert built.num_classes == 5


def test_a_mapping_for_a_dataclass_becomes_one_and_other_mappings_stay(module):
    split = build({"_target_": f"{module}.Plain", "split": {"val": 0.5}}).split
    assert (split.val, split.seed) == (0.5, 0)
    assert build({"_target_": f"{module}.function", "scale": 1.5, "table": {"a": 1}}) == (1.5, {"a": 1})


def test_nodes_inside_are_built_first_with_the_same_facts(module):
    inner = {"_target_": f"{module}.Plain", "power": 7}
    built = build({"_target_": f"{module}.Plain", "inner": [inner]}, num_classes=3)
    assert (built.inner[0].power, built.inner[0].num_classes) == (7, 3)


def test_a_node_is_not_changed(module):
    node = {"_target_": f"{module}.Plain", "split": {"val": 0.5}}
    build(node, num_classes=1)
    assert node == {"_target_": f"{module}.Plain", "split": {"val": 0.5}}


def test_what_the_class_itself_refuses_stays_its_own_error():
    with pytest.raises(ConfigError):
        build({"_target_": "tune.data.readers.elpv.Elpv", "task": "cell_type", "types": "mono"})
