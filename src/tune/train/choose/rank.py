"""Scores of backbones, and of their layers, on the data of an experiment: one pass over the images for each."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tune.data.options import separate
from tune.errors import RunError
from tune.evaluate.loaded import load_run
from tune.features import transferability as scores
from tune.features.graph import Uncut
from tune.features.taps import OUTPUT, layers_at
from tune.models.classifier import source_classifier
from tune.train.choose.look import ask, ask_once, look, sample, tapped
from tune.train.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tune.features.extract import Encoder
    from tune.train.prepare import Prepared

    Say = Callable[[str], None]

MAX_ROWS = 5000  # of each part; the dearest of the scores grow with their square
DEPTHS = 4
_TIMED = 16  # images


@dataclass
class Candidate:
    """A backbone that is compared.

    Args:
        name: for the table.
        config: composed and checked: the experiment with this backbone, frozen.
        overrides: words that compose it.
        choices: option of each group.
        run_dir: the finished run that it comes from, if it does.
    """

    name: str
    config: dict[str, Any]
    overrides: list[str]
    choices: dict[str, str]
    run_dir: Path | None = None


@dataclass
class Score:
    """What a layer's features say of the labels; of the scores higher is better.

    Args:
        backbone: name of the candidate.
        layer: "output", or behind which layer the maps were averaged.
        dim: D.
        log_me: of the training rows, as `h_score` and `leep`.
        h_score: between 0 and K - 1.
        leep: at most 0; None where the source has no classifier of these features.
        knn: accuracy on the validation rows, as `probe`.
        probe: of a linear probe.
        ms: milliseconds per image, up to this layer.
    """

    backbone: str
    layer: str
    dim: int
    log_me: float
    h_score: float
    leep: float | None
    knn: float
    probe: float
    ms: float


@dataclass
class Ranked:
    """What came of one candidate.

    Args:
        scores: of its layers, the output last.
        digest: of its weights; empty for random ones.
        rows: training and validation rows that were looked at.
        notes: what to know of it, as sentences.
    """

    scores: list[Score]
    digest: str
    rows: tuple[int, int]
    notes: list[str]

    def as_json(self) -> list[dict[str, Any]]:
        """The scores as plain data."""
        return [asdict(score) for score in self.scores]


def rank(candidate: Candidate, with_layers: bool, allow: Sequence[str], say: Say) -> Ranked:
    """Look at the training and validation rows through a backbone, and score what it says. No test row is seen.

    Without layers this is what a run with `freeze=deep` asks of the frozen backbone, and shares its cache.

    Raises:
        ConfigError: if the backbone or the data do not fit.
        RunError: if the backbone cannot be traced.
    """
    prepared = prepare(candidate.config)
    table, parts = prepared.table, prepared.parts
    labels = np.asarray(table.seen_labels, dtype=np.int64)
    seed = separate(candidate.config["data"])[0].split.seed
    train, val = (sample(labels, table.labelled(rows), MAX_ROWS, seed) for rows in (parts.train, parts.val))
    started = time.monotonic()
    try:
        features, ms = _look(prepared, np.concatenate([train, val]), with_layers)
    except Uncut as error:
        raise RunError(f"{candidate.name} cannot be ranked: {error}") from error
    say(f"{candidate.name:<24} {len(train) + len(val):,} images in {time.monotonic() - started:.1f} s")
    theta, note = _source_probs(candidate, prepared, features[OUTPUT][: len(train)], allow)
    found = []
    for layer, each in features.items():
        rows, others = each[: len(train)], each[len(train) :]
        seen = theta if layer == OUTPUT else None
        found.append(
            Score(
                candidate.name,
                layer,
                rows.shape[1],
                scores.log_me(rows, labels[train]),
                scores.h_score(rows, labels[train]),
                None if seen is None else scores.leep(seen, labels[train]),
                scores.accuracy(scores.neighbours(rows, labels[train], others), labels[val]),
                scores.accuracy(scores.probe(rows, labels[train], others), labels[val]),
                ms[layer],
            )
        )
    notes = [f"LEEP is blank for {candidate.name}: {note}"] if note else []
    return Ranked(found, prepared.network.backbone.weights_digest, (len(train), len(val)), notes)


def _look(prepared: Prepared, rows: np.ndarray, with_layers: bool) -> tuple[dict[str, scores.Array], dict[str, float]]:
    """Features (N, D) and milliseconds per image, by layer."""
    config, data, backbone = prepared.config, prepared.data, prepared.network.backbone
    images = torch.randn(_TIMED, 3, *backbone.input.size, generator=torch.Generator().manual_seed(0))
    encoder, kept = prepared.frozen.encoders[0], prepared.frozen.rows[0]
    if not with_layers and encoder is not None:
        features = ask(encoder, data, rows) if kept is None else ask_once(kept, rows)
        return {OUTPUT: features}, {OUTPUT: 1000 * _seconds(encoder, images)}
    names = layers_at(backbone, DEPTHS) if with_layers else []
    seen = tapped(backbone, names, config, prepared.precision, prepared.device, len(rows))
    features = look(seen, config, data, prepared.contents, rows)
    seconds = seen.taps.seconds(images.to(seen.encoder.device), seen.encoder.autocast)
    return seen.split(features), {layer: 1000 * each for layer, each in seconds.items()}


def _seconds(encoder: Encoder, images: torch.Tensor) -> float:
    """Time per image of the frozen part, not compiled: the shortest of three passes, after one to warm up."""
    best = float("inf")
    for repeat in range(4):
        started = time.perf_counter()
        encoder.plain(images).cpu()
        best = min(best, time.perf_counter() - started) if repeat else best
    return best / len(images)


def _source_probs(
    candidate: Candidate, prepared: Prepared, features: scores.Array, allow: Sequence[str]
) -> tuple[scores.Array | None, str]:
    """What the source's own classifier says of rows, (N, Z); or nothing, and why."""
    rows = torch.from_numpy(features).float()
    if candidate.run_dir is not None:
        with torch.no_grad():
            logits = load_run(candidate.run_dir, allow).network.judge(rows).logits
    else:
        found = source_classifier(candidate.config["backbone"], rows.shape[1])
        if isinstance(found, str):
            return None, found
        weight, bias = found
        logits = rows @ weight.float().T + bias.float()
    return logits.double().softmax(dim=1).numpy(), ""


def correlations(found: Sequence[Score], real: Sequence[float]) -> dict[str, tuple[float, float, int]]:
    """Of each score, by its name, Kendall's τ-b and Pearson's r with what came of training, and of how many pairs."""
    columns = {
        name: [getattr(score, name) for score in found] for name in ("log_me", "h_score", "leep", "knn", "probe")
    }
    answer = {}
    for name, column in columns.items():
        pairs = [(each, value) for each, value in zip(column, real, strict=True) if each is not None]
        one, other = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True)) if pairs else ((), ())
        answer[name] = kendall(one, other), pearson(one, other), len(pairs)
    return answer


def kendall(one: Any, other: Any) -> float:
    """τ-b of two columns: share of concordant less discordant pairs, ties taken out (Kendall 1945)."""
    signs = [np.sign(np.subtract.outer(np.asarray(each), np.asarray(each))) for each in (one, other)]
    scale = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    return float((signs[0] * signs[1]).sum() / scale) if scale else float("nan")


def pearson(one: Any, other: Any) -> float:
    """r of two columns; NaN where one is constant."""
    a, b = (np.asarray(each) - np.mean(each) if len(each) else np.zeros(0) for each in (one, other))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")
