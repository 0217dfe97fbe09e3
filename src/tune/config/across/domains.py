"""What `data=domains`, `transfer` and `objective` mean for each other. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tune.config.across.repeats import ensemble_of
from tune.errors import Problem

DOMAINS = "tune.data.readers.domains.Domains"
SOURCE_FREE = "tune.transfer.source_free.SourceFree"
REWEIGHT = "tune.transfer.reweight.Reweight"
BETWEEN = {
    REWEIGHT: "weights source rows by how much they look like the target",
    "tune.transfer.tradaboost.TrAdaBoost": "weights source rows by what the target's few labels say",
    "tune.transfer.mmd.Mmd": "brings two domains into one space",
    "tune.transfer.coral.Coral": "brings two domains into one space",
    "tune.transfer.dann.Dann": "brings two domains into one space",
    "tune.transfer.statistics.Statistics": "standardises the target's features",
}
"""Methods that need a source and a target, and what each does with them."""


def is_domains(data: Any) -> bool:
    """Whether a `data` node names a source and a target."""
    return isinstance(data, dict) and data.get("_target_") == DOMAINS


def is_source_free(cfg: dict[str, Any]) -> bool:
    """Whether a run adapts a finished one without its source."""
    transfer = cfg.get("transfer")
    return isinstance(transfer, dict) and transfer.get("_target_") == SOURCE_FREE


def starts_from_run(cfg: dict[str, Any]) -> bool:
    """Whether the weights of a run come from a finished one."""
    backbone = cfg.get("backbone")
    return isinstance(backbone, dict) and str(backbone.get("weights")).startswith("run:")


def closes_source(cfg: dict[str, Any]) -> bool:
    """Whether a run adapts a finished one, so that whatever that was trained on stays closed."""
    return is_source_free(cfg) and starts_from_run(cfg)


def learns_source_first(cfg: dict[str, Any]) -> bool:
    """Whether a run adapts what another one, which comes before it, learns from the source."""
    return is_source_free(cfg) and not starts_from_run(cfg)


def problems(cfg: dict[str, Any]) -> Iterator[Problem]:
    """What does not go together."""
    data, transfer = cfg.get("data"), cfg.get("transfer")
    domains, objective = is_domains(data), cfg.get("objective")
    target = transfer.get("_target_") if isinstance(transfer, dict) else None
    if target in BETWEEN and not domains:
        yield Problem("transfer", f"needs data=domains, a source and a target: it {BETWEEN[target]}")
    if objective == "val/infomax" and not domains and not is_source_free(cfg):
        yield Problem("objective", "val/infomax is measured on target rows without labels: data=domains")
    if cfg.get("guard") is False and not domains and not closes_source(cfg):
        yield Problem("guard", "has no effect: there is nothing to stand beside a run in one domain")
    if is_source_free(cfg):
        if not domains and not starts_from_run(cfg):
            text = "needs what was trained on the source: backbone.weights=run:ID, or data=domains to train it first"
            yield Problem("transfer", text)
        if objective != "val/infomax":
            text = f"needs to be val/infomax, not {objective}: source_free has no labels to validate on"
            yield Problem("objective", text)
        if isinstance(scheduler := cfg.get("scheduler"), dict) and "plateau" in str(scheduler.get("_target_")):
            yield Problem("scheduler", "plateau waits for val/loss, which needs labels; source_free has none")
        if ensemble_of(cfg).combine == "stack":
            text = "a stack learns from labels of validation rows; source_free has none: ensemble=average, or vote"
            yield Problem("ensemble", text)
        if ensemble_of(cfg).combine == "soup" and not starts_from_run(cfg):
            text = "a soup averages networks from the same first weights, and each of these learns its source by itself"
            yield Problem("ensemble", f"{text}: start all from one run, backbone.weights=run:ID, or ensemble=average")
        if isinstance(cfg.get("threshold"), str):
            yield Problem("threshold", "is chosen by labels, and source_free has none: give a number, or null")
    if target == REWEIGHT and domains and objective not in ("val/loss", "val/infomax"):
        text = f"{objective} is of source rows as they are; reweight aims at others: objective=val/loss weighs them too"
        yield Problem("objective", text)
    if domains and isinstance(data, dict):
        labelled = data.get("labelled") or 0
        if data.get("source") is None and not closes_source(cfg):
            yield Problem("data.source", "needs rows to learn from; none may be missing but beside a finished run")
        if target == "tune.transfer.tradaboost.TrAdaBoost" and not labelled:
            yield Problem(
                "data.labelled", "tradaboost learns from a few labels of the target: give their number per class"
            )
        if labelled and is_source_free(cfg):
            yield Problem("data.labelled", "has no effect with transfer=source_free, which asks for no label")
        if data.get("tasks"):
            yield Problem("data.tasks", "further tasks are learned in one domain, not with data=domains")
        if isinstance(cfg.get("head"), dict) and "sklearn" in str(cfg["head"].get("_target_")):
            yield Problem("head", "is fitted at once, to rows of one domain; with data=domains it trains: head=linear")
