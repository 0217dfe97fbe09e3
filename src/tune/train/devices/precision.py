"""Which numbers the run computes with. `auto` looks at the hardware alone, and says what it chose and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

Lightning = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]


@dataclass(frozen=True)
class Precision:
    """What was chosen.

    Args:
        trainer: the precision that Lightning is given.
        frozen: dtype of autocast in a backbone that is wholly frozen; None keeps the trainer's precision there.
        autocast: dtype of an autocast around each forward pass that we open ourselves (XLA), or None.
        reason: one phrase for the first screen.
    """

    trainer: Lightning
    frozen: torch.dtype | None
    autocast: torch.dtype | None
    reason: str

    def of_run(self, freezes: bool) -> Precision:
        """The same for a run in which something is frozen at some time, or nothing ever."""
        return self if freezes or self.frozen is None else replace(self, frozen=None, reason="fp32 (auto)")

    @property
    def frozen_part(self) -> torch.dtype | None:
        """Dtype of autocast in a part of a backbone that is frozen; None: that of its weights."""
        return self.frozen or {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.trainer)


def choose_precision(asked: str, device: str) -> Precision:
    """Resolve `precision` for a device type ("cpu", "cuda", "xla", "mps").

    Lightning's XLA plugin knows no mixed precision, so that bf16-mixed is opened there by an autocast of our own.
    """
    if asked == "auto":
        return _auto(device)
    if device == "xla" and asked == "bf16-mixed":
        return Precision("32-true", None, torch.bfloat16, "bf16-mixed")
    return Precision(asked, None, None, asked)  # type: ignore[arg-type]  # checked against the schema


def _auto(device: str) -> Precision:
    if device == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision("bf16-mixed", None, None, "bf16-mixed (auto: the GPU computes in bf16)")
        return Precision("16-mixed", None, None, "16-mixed (auto: the GPU has no bf16)")
    if device == "xla":
        return Precision("32-true", None, torch.bfloat16, "bf16-mixed (auto: TPU)")
    if device == "cpu" and (fast := _bf16_unit()):
        return Precision("32-true", torch.bfloat16, None, f"fp32, a frozen backbone in bf16 (auto: {fast} found)")
    return Precision("32-true", None, None, "fp32 (auto)")


def _bf16_unit() -> str:
    """Name of the processor's bf16 unit, empty if it has none. Torch offers no public query for either."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""
