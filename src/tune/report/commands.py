"""The words of a command: what each is about, with others in their place, without secrets."""

from __future__ import annotations

from tune.run_dir import HIDDEN, is_secret

REPEATS = ("seed", "data.split.seed", "data.split.fold", "data.bootstrap", "ensemble.member")
"""Keys that tell repetitions of a trial apart."""


def with_words(typed: list[str], words: list[str]) -> list[str]:
    """A run's own command with other words: each in the place of what it replaces, or behind the others."""
    new = {key_of(word): word for word in words}
    kept = [new.pop(key_of(word), word) for word in typed]
    return ["tune", "run", *kept, *new.values()]


def key_of(word: str) -> str:
    """What a word is about, however it is spelled."""
    return word.lstrip("+~").partition("=")[0].replace("/", ".")


def is_repeat(word: str) -> bool:
    """Whether a word tells repetitions of a trial apart."""
    return key_of(word) in REPEATS


def masked(word: str) -> str:
    """A word with its value hidden where its key sounds like a secret."""
    key, sign, _ = word.partition("=")
    return f"{key}={HIDDEN}" if sign and is_secret(key) else word
