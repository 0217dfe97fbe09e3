"""How much of a backbone should train: the rule of thumb, and what the evidence says to it. Pure, and torch-free.

Little data or a close task: the head alone (deep). More data: the last third too (mid). Much data or a distant task:
everything (full).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Option = Literal["deep", "mid", "full"]

LITTLE, MUCH = 50, 1000
"""Training rows per class below which data are little, and from which on they are much."""

CLOSE, FAR = 0.8, 0.1
"""Agreement of neighbours, from 0 (chance) to 1, from which on a task is close, and below which it is distant."""

_ERRORS = 2.0  # standard errors by which a layer's probe must be better than the output's
_NATS = 5.0  # or by which its evidence must be greater: odds of 150 to 1


@dataclass(frozen=True)
class Tap:
    """What the features behind a layer tell of the labels.

    Args:
        layer: its name; "output" for the backbone's features.
        width: numbers per image.
        log_me: of the training rows.
        knn: balanced accuracy of nearest neighbours on validation rows.
        probe: that of a linear probe.
        errors: standard errors by which the probe tells more rows right than the output's does.
    """

    layer: str
    width: int
    log_me: float
    knn: float
    probe: float
    errors: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """What is known before anything trains.

    Args:
        rows: that train.
        classes: K.
        looked: training rows that the taps were measured on.
        taps: from the input to the output, which is the last; empty where there is none.
        untapped: why there is none, as part of a sentence.
    """

    rows: int
    classes: int
    looked: int = 0
    taps: tuple[Tap, ...] = ()
    untapped: str = ""

    @property
    def per_class(self) -> float:
        """Training rows per class, on average."""
        return self.rows / self.classes

    @property
    def agreement(self) -> float:
        """How far neighbours in the output's features agree on the class: 0 by chance, 1 always."""
        chance = 1 / self.classes
        return (self.taps[-1].knn - chance) / (1 - chance)

    def nats(self, tap: Tap) -> float:
        """Logarithm of the odds by which the looked-at labels speak for a layer's features, against the output's."""
        return self.looked * (tap.log_me - self.taps[-1].log_me)

    def better(self) -> Tap | None:
        """The layer below the output that tells most, if it clearly tells more than the output; else None."""
        found = [tap for tap in self.taps[:-1] if tap.errors >= _ERRORS or self.nats(tap) >= _NATS]
        return max(found, key=lambda tap: (tap.probe, tap.log_me), default=None)


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        option: deep, mid or full.
        reason: one sentence, with what speaks against it.
        numbers: what it was decided by, as one sentence; empty if nothing was measured.
        evidence: the same as plain data.
    """

    option: Option
    reason: str
    numbers: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


def decide(evidence: Evidence) -> tuple[Option, str]:
    """The option, and why."""
    size = f"{evidence.per_class:,.0f} training rows a class"
    little, much = evidence.per_class < LITTLE, evidence.per_class >= MUCH
    distance, is_distant, is_close = _distance(evidence)
    if little:
        text = f"little data: {size}, under {LITTLE}"
        against = f"the evidence disagrees: {distance}, so more rows and a deeper freeze may pay" if is_distant else ""
        return "deep", _joined(text, against)
    if is_distant:
        against = "" if much else f"the number of rows alone ({size}) would say mid"
        return "full", _joined(f"a distant task: {distance}", against)
    if is_close:
        says = "full" if much else "mid"
        against = f"the evidence disagrees: the number of rows ({size}) would allow {says}"
        return "deep", _joined(f"a close task: {distance}", against)
    if much:
        return "full", f"much data: {size}, at least {MUCH:,}, and {distance}"
    return "mid", f"more than a little data: {size}, at least {LITTLE}, and {distance}"


def summary(evidence: Evidence) -> str:
    """The numbers, as one sentence."""
    size = f"{evidence.rows:,} training rows of {evidence.classes} classes"
    if not evidence.taps:
        return f"{size}; {evidence.untapped}"
    out, others = evidence.taps[-1], evidence.taps[:-1]
    below = evidence.better() or max(others, key=lambda tap: tap.probe, default=None)
    text = f"{size}; output: kNN {out.knn:.3f} (chance {1 / evidence.classes:.3f}), probe {out.probe:.3f}"
    text += f", LogME {out.log_me:.3f}"
    if below is not None:
        text += f"; {below.layer}: {below.knn:.3f}, {below.probe:.3f}, {below.log_me:.3f}"
    return text


def _distance(evidence: Evidence) -> tuple[str, bool, bool]:
    """What the features say of the distance to the task on which they were learned: in words, is distant, is close."""
    if not evidence.taps:
        return evidence.untapped, False, False
    out, better, agreement = evidence.taps[-1], evidence.better(), evidence.agreement
    if better is not None:
        return f"{better.layer} tells more than the output", True, False
    if agreement <= FAR:
        return f"neighbours in the features agree hardly more than by chance (kNN {out.knn:.3f})", True, False
    if agreement >= CLOSE:
        return f"neighbours in the features agree on the class (kNN {out.knn:.3f})", False, True
    return (
        f"the task is neither close nor distant (kNN {out.knn:.3f}, no layer tells more than the output)",
        False,
        False,
    )


def _joined(text: str, against: str) -> str:
    return f"{text}; {against}" if against else text
