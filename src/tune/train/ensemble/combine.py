"""Members as one: what they say together, and the folder that holds it.

ensemble.json     the members and how they decide together, from which `tune.load` rebuilds it
run.json          metrics with 95 % intervals, as of a run
predictions/      val.csv and test.csv, as of a run
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tune.errors import ConfigError, Problem
from tune.evaluate.ensemble import Recipe, fit_stack
from tune.evaluate.metrics import confusion_matrix, infomax, measure, measure_intervals
from tune.evaluate.predict import write_predictions
from tune.run_dir import process_identity, shown, write_json
from tune.train.ensemble.members import Member, Predicted, pooled, read_members
from tune.train.ensemble.soup import cook
from tune.train.sweep.ledger import deciding

if TYPE_CHECKING:
    from torch import Tensor


def combine(run_dirs: Sequence[Path], how: str, folder: Path) -> dict[str, Any]:
    """Let runs decide together. Returns what was written to run.json.

    Args:
        run_dirs: of finished runs.
        how: average, vote, soup, stack or boost.
        folder: of the ensemble; made, or written anew.

    Raises:
        ConfigError: if they do not go together.
    """
    members = read_members(run_dirs)
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"how": how, "members": [shown(member.run_dir) for member in members]}
    if how == "soup":
        val, test, kept = cook(members, folder)
        about["kept"] = [member.id for member in kept]
    else:
        recipe, val, test = _decide(members, how)
        places = [str(member.run_dir.resolve()) for member in members]
        write_json(folder / "ensemble.json", {**recipe.as_json(), "members": places})
    return _write(folder, members, about, val, test)


def _decide(members: list[Member], how: str) -> tuple[Recipe, Predicted, Predicted | None]:
    if how == "stack":
        return _stack(members)
    weights = [float(member.record["boost"]["weight"]) for member in members] if how == "boost" else []
    if how == "boost" and not any(weights):
        raise ConfigError(Problem("ensemble", "no boosted member is better than chance on its training rows"))
    recipe = Recipe(how, weights=weights)
    folds = {tuple(member.val.index.tolist()) for member in members}
    if len(folds) > 1:  # each row is validated by the members that were not trained on it
        val = pooled(members, "val")
        if how != "average":
            raise ConfigError(Problem("ensemble.combine", f"{how} needs the same validation rows in all members"))
    else:
        val = _joined([member.val for member in members], recipe)
    tests = [member.test for member in members if member.test is not None]
    return recipe, val, _joined(tests, recipe) if tests else None


def _joined(predicted: list[Predicted], recipe: Recipe) -> Predicted:
    first = predicted[0]
    return Predicted(first.index, first.labels, recipe.apply(torch.stack([each.probs for each in predicted])))


def _stack(members: list[Member]) -> tuple[Recipe, Predicted, Predicted | None]:
    """Members that differ only in the fold that validates are one: out-of-fold predictions, and the mean on test."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, member in enumerate(members):
        places[_without_fold(member.config)].append(place)
    groups = list(places.values())
    if len(groups) < 2:
        raise ConfigError(
            Problem("ensemble", "a stack needs two different members or more, as -m head=linear,mlp gives")
        )
    vals = [pooled([members[place] for place in group], "val") for group in groups]
    for group, val in zip(groups, vals, strict=True):
        if not torch.equal(val.index, vals[0].index):
            text = f"has another split than {members[0].id}: a stack learns from rows that all members predicted"
            raise ConfigError(Problem(members[group[0]].id, text))
    if (fewest := int(torch.bincount(vals[0].labels, minlength=vals[0].probs.shape[1]).min())) < 5:
        raise ConfigError(Problem("ensemble", f"a stack needs 5 validation rows of each class, not {fewest}"))
    recipe, outside = fit_stack(torch.stack([val.probs for val in vals]), vals[0].labels, groups)
    tests = [member.test for member in members if member.test is not None]
    val = Predicted(vals[0].index, vals[0].labels, outside)
    return recipe, val, _joined(tests, recipe) if tests else None


def _without_fold(config: dict[str, Any]) -> str:
    split = {key: value for key, value in config["data"].get("split", {}).items() if key != "fold"}
    kept = deciding({**config, "data": {**config["data"], "split": split}})
    return json.dumps({key: value for key, value in kept.items() if key != "ensemble"}, sort_keys=True)


def _write(
    folder: Path, members: list[Member], about: dict[str, Any], val: Predicted, test: Predicted | None
) -> dict[str, Any]:
    classes = members[0].record["classes"]
    names = {row: name for member in members for row, name in member.names.items()}
    listed = [names.get(row, "") for row in range(max(names) + 1)]
    metrics: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    record: dict[str, Any] = {
        "status": "done",
        "name": members[0].record["name"],
        "ensemble": about,
        "classes": classes,
    }
    for part, predicted in (("val", val), ("test", test)):
        if predicted is None:
            continue
        write_predictions(
            folder / "predictions" / f"{part}.csv", listed, classes, predicted.index, predicted.labels, predicted.probs
        )
        metrics |= {f"{part}/{name}": value for name, value in measured(predicted.probs, predicted.labels).items()}
        if part == "test":
            between = measure_intervals(predicted.probs, predicted.labels)
            intervals |= {f"test/{name}": value for name, value in between.items()}
            record["confusion"] = confusion_matrix(predicted.probs, predicted.labels).tolist()
    record |= {
        "metrics": metrics,
        "intervals": intervals,
        "apart": _apart(members, list(metrics)),
        "counts": {"val": len(val.index), "test": 0 if test is None else len(test.index)},
        "data": members[0].record["data"],
        **process_identity(),
    }
    write_json(folder / "run.json", record)
    return record


def measured(probs: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics and loss of what an ensemble says: probabilities (N, K), labels (N,); -1 of a target's rows."""
    if bool((labels < 0).any()):
        return {"infomax": infomax(probs)}
    chosen = probs.double().gather(1, labels[:, None]).clamp_min(1e-7)
    return measure(probs, labels) | {"loss": float(-chosen.log().mean())}


def _apart(members: list[Member], names: list[str]) -> dict[str, dict[str, float]]:
    """Of each metric: mean and standard deviation over the members, and that of the one best on validation."""
    from tune.train.objective import is_better

    objective = members[0].record["objective"]
    best = members[0]
    for member in members[1:]:
        if is_better(objective, member.record["metrics"][objective], best.record["metrics"][objective]):
            best = member
    found = {}
    for name in names:
        values = [member.record["metrics"].get(name) for member in members]
        if all(value is not None for value in values):
            numbers: Tensor = torch.tensor(values, dtype=torch.float64)
            found[name] = {
                "mean": float(numbers.mean()),
                "sd": float(numbers.std()),
                "best": float(best.record["metrics"][name]),
            }
    return found
