"""What to try next about each verdict, in the order of cheapness."""

from __future__ import annotations

from collections.abc import Callable

from tune.report.words import Try, Words

_MOST = 3
_Change = Callable[[Words], Try | None]

_FIT = (Words.dropout, Words.weight_decay)
_SMALLER = (Words.early_stopping, Words.train_less, Words.smaller)
_TRIES: dict[str, tuple[_Change, ...]] = {
    "diverged": (Words.lower_rate, Words.found_rate, Words.clipping, Words.warmup, Words.adam),
    "rate too low": (Words.found_rate, Words.higher_rate, Words.adam, Words.longer),
    "underfitting": (
        Words.usual_lr,
        Words.no_dropout,
        Words.norm,
        Words.adam,
        Words.train_more,
        Words.init,
        Words.hidden,
        Words.longer,
        Words.larger,
    ),
    "overfitting": (Words.augment, *_FIT, *_SMALLER),
    "overfitting of a head": (*_FIT, Words.augment, *_SMALLER),  # augmentation costs it the features of every view
    "still improving": (Words.longer, Words.somewhat_higher_rate, Words.train_more),
    "few rows": (Words.by_loss, Words.folds, Words.more_val),
    "jitter": (Words.ema, Words.somewhat_lower_rate, Words.batch, Words.by_loss),
    "label noise suspected": (Words.smoothing, Words.mixup, Words.early_stopping, Words.weight_decay),
    "healthy": (Words.bagging, Words.train_more, Words.augment, Words.longer, Words.larger),
}
_FITTED: dict[str, tuple[_Change, ...]] = {
    "few rows": (Words.folds, Words.more_val),
    "healthy": (Words.folds, Words.larger),
}
"""Of a head that is fitted at once: whatever trains by steps has no effect on it."""


def tries(topic: str, words: Words) -> list[Try]:
    """At most three things to try; fewer where the run has done the rest already.

    Args:
        topic: a verdict, or what is behind it.
        words: what can be changed in the run.
    """
    if topic == "overfitting" and words.trains == "deep":
        topic = "overfitting of a head"
    changes = _FITTED.get(topic, ()) if words.story.is_fitted else _TRIES[topic]
    return [found for change in changes if (found := change(words)) is not None][:_MOST]
