"""Randomness that depends on a key alone, not on what ran before: same draws in any order, in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(*parts: int | str) -> int:
    """A number of 63 bits from a key such as ("augment", seed, epoch, row); the same on every machine."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


@contextmanager
def keyed(*parts: int | str) -> Iterator[None]:
    """Inside, torch's CPU generator runs from the key; afterwards it is as it was before.

    ``torch.manual_seed`` would also reach for every GPU, so the CPU's generator is set by itself.
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed_of(*parts))
    try:
        yield
    finally:
        generator.set_state(state)


def seed_device(key: int, device: torch.device) -> None:
    """Start the global generators of the CPU and of one device from a key.

    ``torch.manual_seed`` reaches for every kind of device, and notes the call with its traceback where none is there,
    which takes 100 times as long.
    """
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.manual_seed(key)
    elif device.type == "mps":
        torch.mps.manual_seed(key)
