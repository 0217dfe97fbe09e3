"""What `precision` gives where nothing is frozen."""

from __future__ import annotations

import torch

from tune.train.devices.precision import Precision


def test_bf16_of_a_frozen_backbone_is_not_for_a_run_that_freezes_nothing():
    mixed = Precision("32-true", torch.bfloat16, None, "fp32, a frozen backbone in bf16 (auto: AMX found)")
    assert mixed.of_run(freezes=True) == mixed
    assert mixed.of_run(freezes=False) == Precision("32-true", None, None, "fp32 (auto)")
    gpu = Precision("bf16-mixed", None, None, "bf16-mixed")
    assert gpu.of_run(freezes=False) == gpu
