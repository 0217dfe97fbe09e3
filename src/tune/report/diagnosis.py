"""What the curves of a run say, and what to try next.

    for verdict in diagnose(read_story(run_dir)):
        print(verdict.name, verdict.evidence, [each.words for each in verdict.tries])

Yardsticks. A loss is measured on the scale of `scale`: 0 for guessing by frequency, 1 for knowing every row. A share of
n rows has the binomial standard error. A curve's own noise is the size of its moves the wrong way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import isfinite, sqrt
from statistics import fmean, pstdev

from tune.report.curves import around_line, falling_back, falls, last, line, line_error
from tune.report.labels import look_for_flips
from tune.report.scale import Scale, entropy, scale_of
from tune.report.story import Story
from tune.report.tries import tries
from tune.report.words import Try, Words

_DIVERGED = 2.0
"""Times the loss of guessing by frequency, in training: weights that small know better, so something threw them out."""
_THROWN = 100.0
"""Times that loss, in any epoch and any part: no network that learned is so sure of what is wrong."""
_HARDLY = 0.2
"""Learned of the training rows; McFadden calls 0.2 to 0.4 an excellent fit, and what is below has hardly begun."""
_STILL = 0.01
"""Change of the share learned that is no change."""
_EVENLY = 0.15
"""Of what the first half of the training brought, in the second: what falls so evenly has not ended. Real runs
at a tenth of the best rate or less have 0.2 to 2.5, those at a good one that learn nearly all 0.02 to 0.14."""
_SLOW = 1 / 3
"""Of the usual rate: below it is a low one."""
_WELL, _APART = 0.9, 0.1
"""Learned of the training rows, and more than of the validation rows: short of the one and within the other, nothing
but the pace holds the training back."""
_GAP = 0.25
"""Learned of the training rows and not told of the validation rows: a quarter of all there is to know."""
_TURN = 0.05
"""Of the scale, by which val/loss must have risen: less changes no decision."""
_GAIN = 0.02
"""Of the scale, in the last third of the epochs: as much as another third would be worth waiting for."""
_SIGMAS = 3.0
"""Times its noise that a change must have; the noise is itself a guess from few epochs."""
_POINTS = 0.05
"""Half of a 95 % interval: with less certain an accuracy neither epochs nor settings can be told apart."""
_WANTED = 0.02
"""The half of a 95 % interval that the advice is given for."""
_JITTER = 2.0
"""Times the binomial error by which accuracy may move between epochs, though the rows are always the same."""
_FLIP_ERRORS, _FLIP_SHARE, _FLIP_PART = 4.0, 0.02, 0.4
"""Standard errors, share of the labels, and part of what is predicted wrong: a network that has learned little is wrong
about sure rows too. With 15 % of the labels flipped 4.8 errors (96 rows) and 5.6 (288), 0.8 to 0.95 of what is wrong;
of 440 runs on real labels one had more than 4 errors, which was a quarter of its wrong rows."""

_NAMES = {"few rows": "noisy validation", "jitter": "noisy validation"}
_SHARES = ("val/accuracy", "val/balanced_accuracy", "val/f1", "val/f1_macro", "val/auroc")
"""Objectives that the binomial error is a yardstick for."""

USUAL_RATES = {"adamw": 1e-3, "adam": 1e-3, "rmsprop": 1e-3, "adagrad": 1e-2, "momentum": 1e-2, "nesterov": 1e-2}
USUAL_RATES |= {"sgd": 1e-1, "lbfgs": 1.0}
"""Order of the rates that each optimizer is used with; of any other nothing is known."""


@dataclass(frozen=True)
class Verdict:
    """One thing that the curves say.

    Args:
        name: in a word or three.
        evidence: the numbers that say so.
        tries: what to do about it, the cheapest first.
    """

    name: str
    evidence: str
    tries: list[Try] = field(default_factory=list)


def diagnose(story: Story) -> list[Verdict]:
    """Every verdict that holds, the gravest first; "healthy" where none does; empty where there is nothing to judge."""
    words = Words(story, usual_rate(story))
    scale = scale_of(story)
    if told := _diverged(story, scale):
        found = [("diverged", told)]
    elif not story.rows:
        found = []
    else:
        found = [*_of_training(story, scale), *_of_labels(story), *_of_validation(story)]
        found = found or [("healthy", _healthy(story, scale))]
    return [Verdict(_NAMES.get(topic, topic), told, tries(topic, words)) for topic, told in found]


def _of_training(story: Story, scale: Scale | None) -> list[tuple[str, str]]:
    """What the curves of both losses say, which one row has none for."""
    if len(story.rows) == 1:
        return []
    if told := _too_slow(story, scale):
        return [("rate too low", told)]
    if told := _overfitting(story, scale):
        return [("overfitting", told)]
    if told := _still_improving(story, scale):
        return [("still improving", told)]
    if _hardly_learned(story, scale):
        return [("underfitting", _of_loss(story, scale))]
    return []


def _diverged(story: Story, scale: Scale | None) -> str:
    if story.record["status"] == "diverged":
        # The whole cause, with the rows and the module, is printed where the run ends, and stands in run.json.
        cause = re.sub(r", batch \d+( with .*?)?\): ", "): ", story.record["cause"])
        return cause.partition(". ")[0].partition(", in what")[0]
    train = story.curve("train/loss")
    if not train or story.is_fitted:
        return ""
    if not all(isfinite(value) for value in train):
        return "train/loss is no longer a finite number"
    if scale is None:
        return ""
    guess = f", and {_number(scale.train * scale.factor)} is what guessing costs"
    end = fmean(train[-last(train, 3) :])
    if end / scale.factor >= _DIVERGED * scale.train:
        return f"train/loss {_number(end)} at the end{guess}"
    worst = max(train)
    if worst / scale.factor >= _THROWN * scale.train:
        return f"train/loss {_number(worst)} in epoch {train.index(worst) + 1}{guess}: the weights were thrown far out"
    tested = story.record["metrics"]["test/loss"] if "test/loss" in story.record.get("metrics", {}) else None
    for name, losses in {"val/loss": story.curve("val/loss"), "test/loss": [tested or 0.0]}.items():
        if losses and max(losses) >= _THROWN * scale.val:
            return f"{name} {_number(max(losses))}{guess}: the weights were thrown far out"
    return ""


def _hardly_learned(story: Story, scale: Scale | None) -> bool:
    """Whether neither training nor validation rows are told much better than by guessing.

    What dropout, augmentation or mixed images cost the training rows, validation rows do not pay.
    """
    train = story.curve("train/loss")
    learned = scale.learned(train[-1]) if scale and train else 0.0
    return bool(train) and max(learned, _learned_of_val(story, scale)) < _HARDLY


def _too_slow(story: Story, scale: Scale | None) -> str:
    """The rate is low for its optimizer, and train/loss has much left to fall and falls on, or has not begun to."""
    train, rates = story.curve("train/loss"), story.curve("lr")
    usual = usual_rate(story)
    if not train or not rates or usual is None or max(rates) >= _SLOW * usual:
        return ""
    first, second = falls(train, rates)
    chance = scale.train * scale.factor if scale else entropy(story.shares("train"))
    has_begun = first + second > _STILL * chance
    told = f"{_of_loss(story, scale)}; lr {max(rates):.2g}, usual is {usual:.2g}"
    if has_begun and second < _EVENLY * first:
        return ""
    if _hardly_learned(story, scale):
        return told
    if scale is None or not has_begun or not story.curve("val/loss"):
        return ""
    learned, known = scale.learned(train[-1]), scale.told(story.curve("val/loss")[-1])
    return told if learned < _WELL and learned - known < _APART else ""


def _of_loss(story: Story, scale: Scale | None) -> str:
    train = story.curve("train/loss")
    guess = f", guessing by frequency {_number(scale.train * scale.factor)}" if scale else ""
    return f"train/loss {_number(train[-1])} after {len(train)} epochs, {_number(train[0])} in the first{guess}"


def _overfitting(story: Story, scale: Scale | None) -> str:
    """val/loss has turned, or is far above train/loss."""
    train, val = story.curve("train/loss"), story.curve("val/loss")
    if not train or not val:
        return ""
    best, few = val.index(min(val)), last(val, 5)
    end, end_train = fmean(val[-few:]), fmean(train[-few:])
    size = scale.val if scale else min(val)
    noise = max(_SIGMAS * falling_back(val[best:]), _row_error(story), _TURN * size)
    if end - val[best] > noise and best < len(val) - few and end_train < 0.95 * train[best]:
        rose = f"val/loss rose from {_number(val[best])} (epoch {best + 1}) to {_number(end)}"
        return f"{rose} while train/loss fell from {_number(train[best])} to {_number(end_train)}"
    if scale is None:
        return ""
    learned, told = scale.learned(end_train), scale.told(end)
    if learned - told > max(_GAP, 3 * _row_error(story) / scale.val):
        losses = f"train/loss {_number(end_train)} against val/loss {_number(end)}"
        return f"{losses}: {learned:.0%} learned of the training rows, {told:.0%} of the others"
    return ""


def _still_improving(story: Story, scale: Scale | None) -> str:
    """The last third of the epochs brought more than noise, and the best stands in it."""
    loss, shown = story.curve("val/loss"), story.curve(story.objective)
    least = max(_row_error(story), _GAIN * (scale.val if scale else min(map(abs, loss), default=0.0)))
    looks = [("val/loss", loss, [-value for value in loss], least)]
    if story.objective in _SHARES:
        looks.append((story.objective, shown, shown, 2 * _share_error(story)))
    for name, values, signed, least in looks:
        start = max(0, len(values) - 1 - max(1, round(len(values) / 3)))
        if not values or signed.index(max(signed)) <= start:
            continue
        if line(signed[start:]) > max(
            least, _SIGMAS * line_error(signed[start:], falling_back(signed[len(signed) // 2 :]))
        ):
            return f"{name} went from {_number(values[start])} (epoch {start + 1}) to {_number(values[-1])} at the end"
    return ""


def _of_validation(story: Story) -> list[tuple[str, str]]:
    """Too few validation rows to see anything, or accuracy that jumps."""
    accuracy, rows = story.curve("val/accuracy"), story.record["counts"]["val"]
    if not accuracy or not rows:
        return []
    best = max(accuracy)
    half = 1.96 * _share_error(story)
    if half > _POINTS:
        smooth = (best * rows + 2) / (rows + 4)
        needed = round(smooth * (1 - smooth) * (1.96 / _WANTED) ** 2)
        told = f"{rows} validation rows tell an accuracy of {best:.2f} to ±{100 * half:.0f} points; ±2 would take"
        return [("few rows", f"{told} {needed:,}")]
    late = accuracy[len(accuracy) // 2 :]
    jitter = pstdev(around_line(late)) if len(late) > 3 else 0.0
    if jitter > _JITTER * _share_error(story):
        told = (
            f"val/accuracy moves by ±{100 * jitter:.1f} points from epoch to epoch; chance among {rows} rows explains"
        )
        return [("jitter", f"{told} ±{100 * _share_error(story):.1f}")]
    return []


def _of_labels(story: Story) -> list[tuple[str, str]]:
    """Labels that the network, good otherwise, is sure are wrong."""
    if not story.val.labels:
        return []
    found = look_for_flips(story.val)
    if found.errors < _FLIP_ERRORS or found.share < max(_FLIP_SHARE, _FLIP_PART * found.wrong):
        return []
    told = f"about {100 * found.share:.0f} % of the validation labels contradict what the network is surest of"
    return [("label noise suspected", f"{told}; look at {', '.join(found.names)}")]


def _healthy(story: Story, scale: Scale | None) -> str:
    name, row = story.objective, story.rows[-1]
    values = story.curve(name)
    told = f"{name} {_number(row[name])} at the end of {len(story.rows)} epochs" if values else "nothing stands out"
    if story.is_fitted or len(story.rows) == 1:
        return f"{name} {_number(row[name])}; one epoch has no curve to judge" if values else told
    if scale and "train/loss" in row and "val/loss" in row:
        told += f"; train/loss {_number(row['train/loss'])}, val/loss {_number(row['val/loss'])}"
    return told


def _learned_of_val(story: Story, scale: Scale | None) -> float:
    """Share told of the validation rows, in the best epoch where there is no scale; 1 where nothing is known."""
    if scale is not None and (val := story.curve("val/loss")):
        return scale.told(min(val))
    losses, chance = story.val.row_losses(), entropy(story.shares("val"))
    return 1 - fmean(losses) / chance if losses and chance else 1.0


def usual_rate(story: Story) -> float | None:
    """Of the optimizer of a run; None where it is not known."""
    return USUAL_RATES.get(story.record["choices"].get("optimizer", ""))


def _row_error(story: Story) -> float:
    """Standard error of val/loss, from what was said of each row; 0 where that is not known."""
    losses = story.val.row_losses()
    return pstdev(losses) / sqrt(len(losses)) if losses else 0.0


def _share_error(story: Story) -> float:
    """Binomial standard error of the best val/accuracy, with two rows of each kind added (Agresti and Coull 1998)."""
    rows, accuracy = story.record["counts"]["val"], story.curve("val/accuracy")
    share = ((max(accuracy) if accuracy else 0.5) * rows + 2) / (rows + 4)
    return sqrt(share * (1 - share) / (rows + 4))


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 0.0005 else f"{value:.1g}"
