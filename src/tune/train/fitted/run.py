"""The story of a run whose head is fitted at once; `train/experiment` tells that of one that trains by steps.

features   of all rows, from the cache or computed once
fit        the head, to those of the training rows
finish     validation and test rows are predicted, and everything is written as for any run
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric.utilities import move_data_to_device

from tune.batch import Batch, Output
from tune.data.options import separate
from tune.data.samplers import resampled
from tune.evaluate.metrics import measure, tell
from tune.evaluate.predict import Predictions, write_predictions
from tune.evaluate.threshold import find_threshold
from tune.losses.weighted import Weighted
from tune.models.interface import FittedHead
from tune.models.weights_file import note_threshold
from tune.train.callbacks.history import write_history
from tune.train.callbacks.loggers import build_loggers
from tune.train.finished.beside_test import with_measures
from tune.train.record import common_facts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from tune.models.weights_file import WeightsFile
    from tune.train.prepare import Prepared


def fit_once(prepared: Prepared, run_dir: Path, weights: WeightsFile, say: Callable[[str], None]) -> dict[str, Any]:
    """Fit the head, predict, and write what a run leaves behind. Returns what run.json tells of it."""
    head, config, table = prepared.network.head, prepared.config, prepared.table
    assert isinstance(head, FittedHead)
    prepared.frozen.fill(say)
    rows = {part: _features(prepared, part) for part in ("train", "val", "test") if len(prepared.parts.rows(part))}
    started = time.monotonic()
    train = _drawn(rows["train"], config)
    head.fit(train.images, train.labels, _weights(prepared, train), config["seed"])
    seconds = time.monotonic() - started
    predicted = {part: _predict(prepared, batch) for part, batch in rows.items()}
    index, labels, probs, loss = predicted["val"]
    named = {**measure(probs, labels), "loss": loss}
    metrics = {f"val/{name}": value for name, value in named.items()}
    threshold = find_threshold(config["threshold"], probs, labels)
    row = {"epoch": 1, "train/loss": predicted["train"][3], **dict(sorted(metrics.items()))}
    write_history(run_dir / "metrics.csv", [row])
    for logger in build_loggers(config, run_dir, say):
        logger.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=1)
        logger.finalize("success")
    weights.write(prepared.network)
    note_threshold(run_dir, threshold)
    folder, names = run_dir / "predictions", (table.names, table.classes)
    write_predictions(folder / "val.csv", *names, index, labels, probs, threshold)
    told = f"val/accuracy {metrics['val/accuracy']:.3f}  val/loss {loss:.3f}"
    say(f"fit       {len(train.labels):,} rows in {seconds:.1f} s   {told}")
    result: dict[str, Any] = {"best_epoch": 1, "metrics": metrics, "threshold": threshold}
    if "test" in predicted:
        index, labels, probs, loss = predicted["test"]
        write_predictions(folder / "test.csv", *names, index, labels, probs, threshold)
        result = tell(result, common_facts(prepared)["counts"], probs, labels, loss, threshold)
        result = with_measures(result, prepared, run_dir, say)
    return result


def _features(prepared: Prepared, part: str) -> Batch:
    """All rows of a part as one batch on the CPU, with their features (N, D) in the place of images."""
    learner, network = prepared.learner, prepared.network
    device = torch.device({"cuda": "cuda", "mps": "mps"}.get(prepared.device, "cpu"))
    learner.to(device).eval()
    learner.on_fit_start()
    found = []
    with torch.inference_mode():
        for batches in prepared.data.eval_rows(part):
            batch = move_data_to_device(batches["target"], device)
            batch.images = network.features(learner.entering(batch.images))
            found.append(move_data_to_device(batch, torch.device("cpu")))
    learner.cpu()
    columns = ("images", "labels", "label_probs", "weights", "index")
    return Batch(*(torch.cat([getattr(batch, column) for batch in found]) for column in columns))


def _drawn(train: Batch, config: dict[str, Any]) -> Batch:
    """The training rows, or as many drawn with replacement, as batches would hold them."""
    number = separate(config["data"])[0].bootstrap
    if number is None:
        return train
    chosen = torch.from_numpy(resampled(np.arange(len(train.labels)), config["seed"], number))
    columns = (train.images, train.labels, train.label_probs, train.weights, train.index)
    return Batch(*(column[chosen] for column in columns))


def _weights(prepared: Prepared, train: Batch) -> Tensor | None:
    """(N,) of the training rows: those of the data times those of the loss for their class; None if all are equal."""
    loss, given = prepared.learner.loss, prepared.table.weights is not None
    if isinstance(loss, Weighted):
        return train.weights * loss.classes[train.labels]
    return train.weights if given else None


def _predict(prepared: Prepared, rows: Batch) -> tuple[Tensor, Tensor, Tensor, float]:
    """Rows, labels, probabilities and mean loss of a part."""
    embedding, logits = prepared.network.head(rows.images)
    predictions = Predictions()
    loss = prepared.learner.loss(Output(rows.images, embedding, logits), rows)
    predictions.add(rows.index, rows.labels, logits, loss)
    return predictions.gather()
