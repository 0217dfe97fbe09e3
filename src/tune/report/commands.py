"""The command of a run with other words."""

from __future__ import annotations


def with_words(typed: list[str], words: list[str]) -> list[str]:
    """A run's own command with other words: each in the place of what it replaces, or behind the others."""
    new = {_target(word): word for word in words}
    kept = [new.pop(_target(word), word) for word in typed]
    return ["tune", "run", *kept, *new.values()]


def _target(word: str) -> str:
    """What a word is about, however it is spelled."""
    return word.lstrip("+~").partition("=")[0].replace("/", ".")
