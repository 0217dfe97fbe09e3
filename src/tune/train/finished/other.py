"""A finished run measured in other ways: on other data, over flipped images, by another threshold, calibrated.

    answer = measure_rows(form, run_dir, config, Ask(tta=True, threshold="f1"), rows, validation)

Probabilities come from the run as it measured itself (see `form`), and validation rows decide what is fitted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tune.errors import ConfigError, Problem
from tune.evaluate.calibration import doubt, expected_error, is_at_edge, temperature, tempered
from tune.evaluate.metrics import confusion_matrix, measure, measure_intervals
from tune.evaluate.paired import read_predictions
from tune.evaluate.threshold import find_threshold, refuse_threshold
from tune.run_dir import run_id

if TYPE_CHECKING:
    from torch import Tensor

    from tune.train.finished.form import Form
    from tune.train.finished.rows import Rows

View = Callable[["Tensor"], "Tensor"]

AS_IT_IS: dict[str, View] = {"as it is": lambda images: images}
"""The one view of who flips nothing."""

FITTING = ("accuracy", "balanced_accuracy", "f1")
"""Metrics for which a threshold can be the best."""


@dataclass(frozen=True)
class Ask:
    """What is wanted beside the metrics.

    Args:
        tta: whether probabilities are means over flipped views.
        calibrate: whether a temperature is fitted on validation rows.
        threshold: a number, or the metric for which it is the best on validation rows; None: the run's own.
    """

    tta: bool = False
    calibrate: bool = False
    threshold: float | str | None = None


def views_of(augment: dict[str, Any]) -> dict[str, View]:
    """The image as it is and flipped as the run saw it in training; left to right where it saw no flip."""
    across, down = augment.get("flip_horizontal", 0) > 0, augment.get("flip_vertical", 0) > 0
    views = dict(AS_IT_IS)
    if across or not down:
        views["left to right"] = lambda images: images.flip(3)
    if down:
        views["upside down"] = lambda images: images.flip(2)
    if across and down:
        views["both"] = lambda images: images.flip(2, 3)
    return views


def probabilities(form: Form, images: Any, views: dict[str, View], *, batch_size: int = 32, workers: int = 2) -> Tensor:
    """(N, K), the mean over the views, of images that can all be read."""
    said = []
    for view in views.values():
        bad: list[tuple[int, str]] = []
        answers = form.over(images, batch_size=batch_size, workers=workers, bad=bad, view=view)
        said.append(torch.cat([answered.probs for answered in answers]))
        assert not bad, bad
    return torch.stack(said).double().mean(dim=0).float()


def measure_rows(
    form: Form, run_dir: Path, config: dict[str, Any], ask: Ask, rows: Rows, validation: Callable[[], Rows]
) -> dict[str, Any]:
    """Metrics, intervals, counts and confusion matrix of some rows; and what was fitted for them.

    Args:
        form: of the run.
        run_dir: its folder.
        config: of the run.
        ask: what is wanted.
        rows: to be measured.
        validation: gives the run's validation rows; called where their predictions are not at hand.

    Raises:
        ConfigError: if a threshold is wanted for more than two classes.
    """
    if ask.threshold is not None:
        try:
            refuse_threshold(ask.threshold, len(form.classes))
        except ConfigError as error:
            raise ConfigError(*(Problem("--threshold", each.text) for each in error.problems)) from error
    views = views_of(config["augment"]) if ask.tta else AS_IT_IS
    known: tuple[np.ndarray, np.ndarray] | None = None
    if ask.calibrate or isinstance(ask.threshold, str):
        known = _validated(form, run_dir, views, validation)
    threshold = form.threshold
    if ask.threshold is not None:
        labels, probs = known if known is not None else (np.zeros(0, int), np.zeros((0, 2)))
        threshold = find_threshold(_fitting(ask.threshold, config), torch.from_numpy(probs), torch.from_numpy(labels))
    probs, labels = probabilities(form, rows.images, views), torch.from_numpy(rows.labels)
    answer: dict[str, Any] = {
        "metrics": {f"test/{name}": value for name, value in measure(probs, labels, threshold).items()},
        "intervals": {f"test/{name}": pair for name, pair in measure_intervals(probs, labels, threshold).items()},
        "counts": {"test": len(labels)},
        "classes": form.classes,
        "confusion": confusion_matrix(probs, labels, threshold).tolist(),
        "threshold": threshold,
        "views": list(views),
        "skipped": rows.skipped,
    }
    if ask.calibrate:
        assert known is not None
        answer["calibration"] = calibration(*known, rows.labels, probs.double().numpy())
    return answer


def calibration(val_labels: np.ndarray, val_probs: np.ndarray, labels: np.ndarray, probs: np.ndarray) -> dict[str, Any]:
    """The temperature that validation rows ask for, and what it does to other rows.

    Args:
        val_labels: (M,).
        val_probs: (M, K).
        labels: (N,) of the rows that are measured.
        probs: (N, K).

    Returns:
        `temperature`, on how many rows it was fitted, whether it is `at_edge` of its range, and the `doubt` about it;
        of the measured rows `ece` (expected calibration error) and `nll` (mean of -log p of the label, nats), before
        and after.
    """
    t = temperature(val_labels, val_probs)
    after = tempered(probs, t)
    return {
        "temperature": t,
        "fitted_on": len(val_labels),
        "at_edge": is_at_edge(t),
        "doubt": doubt(t, len(val_labels)),
        "ece_before": expected_error(labels, probs),
        "ece_after": expected_error(labels, after),
        "nll_before": _nll(labels, probs),
        "nll_after": _nll(labels, after),
    }


def calibration_lines(found: dict[str, Any]) -> list[str]:
    """What `calibration` gave, in one line; a second one says why it may not be leaned on."""
    pairs = {name: (found[f"{name}_before"], found[f"{name}_after"]) for name in ("ece", "nll")}
    told = ", ".join(f"{name.upper()} {before:.3f} → {after:.3f}" for name, (before, after) in pairs.items())
    fitted = f"T = {found['temperature']:.3f} from {found['fitted_on']} validation rows"
    note = [f"note      {found['doubt']}"] if found["doubt"] else []
    return [f"calibrate {fitted}; of the rows measured {told}", *note]


def _nll(labels: np.ndarray, probs: np.ndarray) -> float:
    return float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12)).mean())


def _validated(
    form: Form, run_dir: Path, views: dict[str, View], validation: Callable[[], Rows]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of the run's validation rows that have a label, seen as the others are.

    Raises:
        ConfigError: if there is none.
    """
    told = read_predictions(run_dir / "predictions" / "val.csv")[1].values()
    if not told:
        raise ConfigError(Problem(run_id(run_dir), "has no validation row with a label to fit anything on"))
    if len(views) > 1:
        rows = validation()
        return rows.labels, probabilities(form, rows.images, views).double().numpy()
    return np.array([label for label, _, _ in told]), np.array([probs for _, _, probs in told])


def _fitting(wanted: float | str, config: dict[str, Any]) -> float | str:
    if wanted != "auto":
        return wanted
    name = config["objective"].removeprefix("val/")
    return name if name in FITTING else "balanced_accuracy"
