"""The attack that `evaluate` asks for, on the test rows of a run whose best weights are in place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from tune.config.build import build
from tune.config.schema import Evaluate
from tune.data.loading.orders import tested_rows
from tune.data.seeds import keyed
from tune.errors import ConfigError, Problem
from tune.evaluate.robustness.gradients import Teacher, WhiteBox
from tune.evaluate.robustness.measure import Attack, Tally, attack_rows, some_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tune.data.splits import Parts
    from tune.data.table import Table
    from tune.models.interface import Backbone
    from tune.train.prepare import Prepared


def refuse_attack(config: dict[str, Any], backbone: Backbone, table: Table, parts: Parts) -> None:
    """Refuse an attack that has no rows, or no public teacher.

    Raises:
        ConfigError: with every reason.
    """
    options, problems = Evaluate(**config["evaluate"]), []
    tested = tested_rows(table, parts)
    for key in ("tta", "calibrate"):
        if getattr(options, key) and not len(tested):
            problems.append(Problem(f"evaluate.{key}", "is about test rows, and there are none: data.split.test=0.2"))
    if options.calibrate and len(table.labelled(parts.val)) < len(parts.val):
        problems.append(Problem("evaluate.calibrate", "is fitted to labels of validation rows, which are hidden here"))
    if options.attack is None and not problems:
        return
    if options.attack is not None and not len(tested):
        text = "attacks test rows, and there are none: data.split.test=0.2"
        problems.append(Problem("evaluate.attack", text))
    elif options.rows is not None and options.rows > len(tested):
        text = f"{options.rows} rows, and the test part has {len(tested)}: leave it out to attack all of them"
        problems.append(Problem("evaluate.rows", text))
    if options.attack == "teacher" and options.teacher is None and not backbone.weights_digest:
        text = "the backbone starts from random weights, so it has no teacher. With another's: evaluate.teacher=package"
        problems.append(Problem("evaluate.attack", text))
    if options.teacher == "none":
        problems.append(Problem("evaluate.teacher", "none is no teacher; it takes package, hub, run:ID or a file"))
    elif options.teacher is not None and "weights" not in config["backbone"]:
        text = "takes the place of backbone.weights, and this backbone has none"
        problems.append(Problem("evaluate.teacher", text))
    if problems:
        raise ConfigError(*problems)
    if options.teacher is not None:  # better now than after the training
        try:
            _public(config, options)
        except ConfigError as error:
            key = "evaluate.teacher"
            told = [Problem(key, each.text.replace("backbone.weights", key)) for each in error.problems]
            raise ConfigError(*told) from error


def with_attack(result: dict[str, Any], prepared: Prepared, say: Callable[[str], None]) -> dict[str, Any]:
    """Add to a result what an attack does to the run, where one is asked for.

    Args:
        result: with `metrics`, `intervals` and `threshold`.
        prepared: the run.
        say: takes the line about it.
    """
    options = Evaluate(**prepared.config["evaluate"])
    if options.attack is None or prepared.rank:
        return result
    tally, about = attack(prepared, options, result["threshold"])
    say(line(about, tally.metrics))
    return result | {
        "metrics": result["metrics"] | {f"test/{name}": value for name, value in tally.metrics.items()},
        "intervals": result["intervals"] | {f"test/{name}": value for name, value in tally.intervals.items()},
        "attack": about,
    }


def attack(prepared: Prepared, options: Evaluate, threshold: float | None) -> tuple[Tally, dict[str, Any]]:
    """Attack test rows. All is computed in the precision of the weights, on the whole network, without the cache.

    Returns:
        Counts, and what was done.
    """
    started = time.monotonic()
    device = torch.device({"cuda": "cuda", "mps": "mps"}.get(prepared.device, "cpu"))
    teacher = _teacher(prepared, options, device) if options.attack == "teacher" else None
    network = prepared.network.to(device).eval()
    table, test = prepared.table, tested_rows(prepared.table, prepared.parts)
    tally = attack_rows(
        Attack(options, WhiteBox(network), teacher, prepared.config["seed"]),
        some_rows(test, table.labels, options.rows),
        table.labels,
        lambda row: prepared.data.transform.pixels(table.images[row]),
        threshold,
        device,
    )
    network.cpu()
    about: dict[str, Any] = {"attack": options.attack, "eps": options.eps}
    if options.attack != "fgsm":
        about["steps"] = options.steps
    if teacher is not None:
        about |= {"teacher": teacher.backbone.weights_source, "features": teacher.where}
    return tally, {**about, **tally.as_json(), "seconds": round(time.monotonic() - started, 1)}


def line(about: dict[str, Any], metrics: dict[str, float]) -> str:
    """What came of it, in one line; and how many rows an attack is blind to, where there are any."""

    def values(name: str) -> str:
        found = [metrics.get(f"{name}@{eps:g}") for eps in about["eps"]]
        return ", ".join("–" if value is None else f"{value:.3f}" for value in found)

    where = f" {about['features']}" if "features" in about else ""
    at = ", ".join(f"{eps:g}" for eps in about["eps"])
    told = f"attack    {about['attack']}{where}, at {at} /255: success {values('attack_success')}   "
    told += f"accuracy {values('attack_accuracy')}   clean {about['clean_accuracy']:.3f}   n = {about['rows']}"
    blind = max(about["no_gradient"].values())
    return told + (f"   no gradient at {blind}, of which it says nothing" if blind else "")


def _teacher(prepared: Prepared, options: Evaluate, device: torch.device) -> Teacher:
    """The public network, cut where the freezing of the run ends."""
    trained = frozenset().union(*(phase.trained for phase in prepared.phases))
    layers = prepared.network.backbone.layers
    return Teacher(
        _public(prepared.config, options), {name for layer in trained - {"head"} for name in layers[layer]}, device
    )


def _public(config: dict[str, Any], options: Evaluate) -> Backbone:
    node = config["backbone"] if options.teacher is None else {**config["backbone"], "weights": options.teacher}
    with keyed("teacher"):  # weights are drawn before they are read: that must move no generator of the run
        return build(node, output=config["output"])
