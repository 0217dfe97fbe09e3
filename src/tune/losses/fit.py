"""Whether a loss fits the run that it is in."""

from __future__ import annotations

import inspect
from typing import Any

from tune.errors import ConfigError, Problem
from tune.losses.interface import SeveralTerms
from tune.losses.mixture import Mixture


def refuse_misfit(loss: Any, *, smoothing: float, mixes: bool, embedding_trains: bool, transfer: Any = None) -> None:
    """Refuse a loss that would ignore some of what is asked for.

    Smoothing and mixing act through `batch.label_probs`; a loss that never reads it would ignore them silently. One
    that shapes the embedding compares labels, of which mixed images have two, and acts where something trains.

    Args:
        loss: of the run.
        smoothing: share of each label that is spread over all classes.
        mixes: whether images are mixed.
        embedding_trains: whether anything in front of the last linear layer ever trains.
        transfer: the method, if a term of it reads the embedding.

    Raises:
        ConfigError: with every reason.
    """
    problems = []
    asked = [name for name, is_on in (("regularize.label_smoothing", smoothing), ("augment", mixes)) if is_on]
    for part in [part for _, part in loss.parts] if isinstance(loss, Mixture) else [loss]:
        if asked and "label_probs" not in inspect.getsource(type(part)):
            text = f"has no effect: {type(part).__name__} reads batch.labels and not batch.label_probs"
            problems += [Problem(key, text) for key in asked]
    if isinstance(loss, SeveralTerms) and loss.shapes_embedding:
        name = type(loss).__name__
        if mixes:
            problems.append(Problem("augment", f"{name} compares rows by their labels, and a mixed image has two"))
        problems += _needs_embedding("loss", loss, embedding_trains)
    if transfer is not None:
        problems += _needs_embedding("transfer", transfer, embedding_trains)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))


def _needs_embedding(key: str, part: Any, embedding_trains: bool) -> list[Problem]:
    if embedding_trains:
        return []
    name = type(part).__name__
    text = f"{name} shapes the embedding (what the last linear layer sees), and nothing in front of it trains"
    return [Problem(key, f"{text}. Take head=mlp, or let layers train: freeze=mid, freeze=full")]
