"""Whether it pays to compile the frozen part of a network, from an estimate that is the same in every run of a config.

Nothing is timed: a form that was chosen by a clock would give other numbers on another day. The figures are those of
benchmarks/README.md: on a CPU inductor saves 28 % of what a frozen EfficientNet-Lite takes, and costs 0.4 s per layer.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tune.errors import ConfigError, Problem

if TYPE_CHECKING:
    from tune.features.prefix import Cut

Mode = Literal["auto", "always", "never"]

_SAVED = 0.28  # share of the time
_LAYER_S = 0.4  # to compile a convolution or linear layer, seconds
_GFLOPS = {torch.bfloat16: 85.0}  # 10^9 operations per second and thread
_GFLOPS_ELSE = 30.0
_FEW = 2_000  # images for which nothing can be repaid


@dataclass(frozen=True)
class Estimate:
    """What compiling brings: seconds that all images take as they are, seconds saved of it, seconds to compile."""

    takes: float
    saves: float
    costs: float

    def __str__(self) -> str:
        return f"saves about {self.saves:.0f} of {self.takes:.0f} s, costs about {self.costs:.0f} s"


def estimate(cut: Cut, images: int, size: tuple[int, int], dtype: torch.dtype | None) -> Estimate:
    """What it brings to compile a frozen part that runs once over so many images, on a CPU.

    Args:
        cut: with the frozen part.
        images: number of images, each view counted.
        size: of an image, pixels.
        dtype: in which the frozen part computes; None: float32.
    """
    if images < _FEW:
        return Estimate(0.0, 0.0, 0.0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        cut.encode(torch.zeros(1, 3, *size))
    rate = _GFLOPS.get(dtype or torch.float32, _GFLOPS_ELSE) * torch.get_num_threads()
    takes = images * counter.get_total_flops() / 1e9 / rate
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in cut.prefix.modules())
    return Estimate(takes, _SAVED * takes, _LAYER_S * layers)


def choose(mode: Mode, device: str, worth: Estimate) -> bool:
    """Whether to compile. By itself only on a CPU with a C++ compiler; elsewhere nothing was measured yet.

    Raises:
        ConfigError: if it is asked for and there is no compiler.
    """
    has_compiler = device != "cpu" or any(shutil.which(each) for each in (os.environ.get("CXX", "g++"), "clang++"))
    if mode == "always" and not has_compiler:
        raise ConfigError(Problem("compile", "needs a C++ compiler (g++ or clang++), and none is on the PATH"))
    return mode == "always" or (mode == "auto" and device == "cpu" and has_compiler and worth.saves > worth.costs)
