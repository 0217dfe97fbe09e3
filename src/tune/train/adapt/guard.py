"""Whether an adaptation was worth it: beside it stand the source alone, the target's statistics, and the ceiling.

All are measured on the same test rows, so the differences are paired, and `objective` chose the epoch of each. Labels
of the target are used here, and nowhere else, except by the ceiling.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric.utilities import move_data_to_device
from safetensors.torch import load_file

from tune.config.across.domains import closes_source, is_domains
from tune.errors import TuneError
from tune.evaluate.label_shift import estimated_shares, shift
from tune.evaluate.paired import METRICS, Joined, join, read_predictions
from tune.evaluate.predict import Predictions, write_predictions
from tune.run_dir import find_run
from tune.train.adapt.beside import FINE_TUNE, STATISTICS, found_or_run, of_source, of_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tune.train.learner import Learner

LARGE_SHIFT = 0.1
"""Total variation distance of the classes' shares from which on it is worth a warning."""


def guard(config: dict[str, Any], learner: Learner, run_dir: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Compare a run with what stands beside it; run.json keeps the answer under "guard".

    Args:
        config: of the run, as it was asked for.
        learner: which has been tested.
        run_dir: with predictions/test.csv.
        say: prints a line.
    """
    if not config["guard"] or not (is_domains(config["data"]) or closes_source(config)):
        return {}
    answer: dict[str, Any] = {}
    lines: list[str] = []
    if "test" in learner.measured:
        try:
            lines = _beside(config, learner, run_dir, answer, say)
        except TuneError as error:  # what the run itself found is not lost by it
            answer["trouble"] = str(error)
            lines = [f"warning   nothing stands beside this run: {error}"]
    for line in lines:
        say(line)
    return {"guard": answer}


def _beside(
    config: dict[str, Any], learner: Learner, run_dir: Path, answer: dict[str, Any], say: Callable[[str], None]
) -> list[str]:
    lines = []
    if closes_source(config):
        beside = {"source only": _as_it_came(config, learner, run_dir)}
    else:
        is_it = config["transfer"]["_target_"] == STATISTICS
        of = run_dir if is_it else found_or_run(of_source(config), say, "guard     the source alone")
        beside = {"source only": of / "predictions/test_unaligned.csv", "statistics": of / "predictions/test.csv"}
        lines = _label_shift(of / "predictions", answer)
    ceiling = found_or_run(of_target(config), say, "guard     the target with its labels")
    beside["ceiling"] = ceiling / "predictions/test.csv"
    answer["beside"] = {name: str(file) for name, file in beside.items()}
    own = run_dir / "predictions/test.csv"
    pairs = {
        name: join(own, file, _without_domain, str if name == "ceiling" else None) for name, file in beside.items()
    }
    return _compare(pairs, config["transfer"]["_target_"] != FINE_TUNE, answer) + lines


def _as_it_came(config: dict[str, Any], learner: Learner, run_dir: Path) -> Path:
    """What the network said of the test rows before it was adapted: the baseline where the source is closed."""
    assert learner.sight is not None
    network, data, predictions = learner.network, learner.sight.data, Predictions()
    adapted = copy.deepcopy(network.state_dict())
    of = find_run(config["backbone"]["weights"].removeprefix("run:"), config["output"])
    stored = load_file(of / "model.safetensors")  # of a run with statistics it holds what moves the target, too
    network.load_state_dict({name: tensor for name, tensor in stored.items() if name in adapted}, strict=False)
    learner.eval()
    learner.place_frozen()
    with torch.no_grad():
        for batches in data.eval_rows("test"):
            batch = move_data_to_device(batches["target"], learner.device)
            logits = network(learner.entering(batch.images)).logits
            predictions.add(batch.index, batch.labels, logits, logits.new_zeros(()))
    network.load_state_dict(adapted)
    path, (index, labels, probs, _) = run_dir / "predictions" / "test_before.csv", predictions.gather()
    write_predictions(path, data.table.names, data.table.classes, index, labels, probs, config["threshold"])
    return path


def _without_domain(path: str) -> str:
    return path.removeprefix("target/")


def _compare(pairs: dict[str, Joined], adapts: bool, answer: dict[str, Any]) -> list[str]:
    """Lines of the comparison by ROC AUC (of two classes) and accuracy; fills "differences", "helped" and "hurt"."""
    classes = len(next(iter(pairs.values())).classes)
    metrics, lines = METRICS[: 2 if classes == 2 else 1][::-1], []
    answer["differences"] = {name: {} for name in pairs}
    for metric in metrics:
        for name, pair in pairs.items():
            (ours, theirs), (difference, low, high) = pair.value(metric), pair.difference(metric)
            if name == next(iter(pairs)):
                lines.append(f"guard     test/{metric}   this run {ours:.3f}   (against it, paired bootstrap, 95 %:)")
            lines.append(f"          {name:<12} {theirs:.3f}   {difference:+.3f} [{low:+.3f}, {high:+.3f}]")
            answer["differences"][name][metric] = {
                "value": theirs,
                "difference": difference,
                "low": low,
                "high": high,
            }
    gains = answer["differences"]["source only"].values()
    answer["hurt"] = any(gain["high"] < 0 for gain in gains)
    answer["helped"] = any(gain["low"] > 0 for gain in gains) and not answer["hurt"]
    if answer["hurt"]:
        lines.append("warning   it hurt: the source alone is better on the target. Take transfer=fine_tune")
    elif adapts and not answer["helped"]:
        lines.append("warning   nothing shows that it helped: no better than the source alone")
    return lines


def _label_shift(run: Path, answer: dict[str, Any]) -> list[str]:
    """How often the classes seem to occur in the target, from what the run on the source alone says of its rows."""
    classes, known = read_predictions(run / "val.csv")
    _, target = read_predictions(run / "test_unaligned.csv")
    labels = np.array([label for label, _, _ in known.values()])
    probs, said = (np.array([p for _, _, p in rows.values()]) for rows in (known, target))
    shares, source = estimated_shares(labels, probs, said), np.bincount(labels, minlength=len(classes)) / len(labels)
    distance = shift(shares, source)
    answer["label_shift"] = {"estimated": shares.tolist(), "source": source.tolist(), "distance": distance}
    if distance < LARGE_SHIFT:
        return []
    text = f"the classes seem to be mixed otherwise in the target (by {100 * distance:.0f} % of the rows)"
    return [f"warning   {text}: to align both domains may hurt"]
