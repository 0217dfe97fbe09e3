"""What an attack does to a run: how many of the rows that it gets right it gets wrong attacked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from tune.data.seeds import keyed
from tune.evaluate.intervals import wilson
from tune.evaluate.robustness.attacks import Attacked, fgsm, pgd
from tune.evaluate.threshold import decide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from tune.config.schema import Evaluate
    from tune.evaluate.robustness.gradients import Teacher, WhiteBox

UNIT = 255
"""ε is given in steps of an 8-bit pixel."""

_AT_ONCE = 32


@final
class Attack:
    """One of the three attacks on a run.

    Args:
        options: which, and how.
        victim: the run; a teacher's attack never looks at it.
        teacher: the public network, for a teacher's attack.
        seed: of the random start, which follows from it and the number of the row.
    """

    def __init__(self, options: Evaluate, victim: WhiteBox, teacher: Teacher | None, seed: int) -> None:
        self.options, self.victim, self.teacher, self.seed = options, victim, teacher, seed

    def __call__(self, clean: Tensor, labels: Tensor, index: Sequence[int], eps: float) -> Attacked:
        """Attack pixels (B, C, H, W), 0-1, of rows `index`, with labels (B,); ε 0-1."""
        raised = self.victim.loss(labels) if self.teacher is None else self.teacher.distance(clean)
        if self.options.attack == "fgsm":
            return fgsm(raised, clean, eps)
        # The distance from the clean features has no gradient in the clean image itself.
        start = torch.stack([self._start(row, clean.shape[1:]) for row in index]).to(clean)
        steps = self.options.steps
        return pgd(raised, clean, eps, steps=steps, step_size=2.5 * eps / steps, start=start)

    def _start(self, row: int, shape: torch.Size) -> Tensor:
        with keyed("attack", self.seed, row):
            return torch.rand(shape) * 2 - 1


@dataclass
class Tally:
    """Counts over rows.

    Args:
        rows: that were looked at.
        right: that the run gets right as they are.
        fooled: by ε in units of 1/255, of those that it gets right, how many it gets wrong attacked.
        still_right: by ε, how many it gets right attacked.
        blind: by ε, at how many the attack found no gradient.
    """

    rows: int = 0
    right: int = 0
    fooled: dict[float, int] = field(default_factory=dict)
    still_right: dict[float, int] = field(default_factory=dict)
    blind: dict[float, int] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """``attack_success@ε``, where anything was right, and ``attack_accuracy@ε``, as fractions of 1."""
        found = {f"attack_success@{eps:g}": n / self.right for eps, n in self.fooled.items() if self.right}
        return found | {f"attack_accuracy@{eps:g}": n / self.rows for eps, n in self.still_right.items()}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of these."""
        found = {f"attack_success@{eps:g}": wilson(n, self.right) for eps, n in self.fooled.items() if self.right}
        return found | {f"attack_accuracy@{eps:g}": wilson(n, self.rows) for eps, n in self.still_right.items()}

    def add(self, eps: float, right: Tensor, right_attacked: Tensor, blind: Tensor) -> None:
        """Count a batch; all (B,) bool."""
        for counts, number in (
            (self.fooled, right & ~right_attacked),
            (self.still_right, right_attacked),
            (self.blind, blind),
        ):
            counts[eps] = counts.get(eps, 0) + int(number.sum())

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "rows": self.rows,
            "clean_accuracy": self.right / self.rows,
            "no_gradient": {f"{eps:g}": number for eps, number in self.blind.items()},
        }


def attack_rows(
    attack: Attack,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    pixels: Callable[[int], Tensor],
    threshold: float | None,
    device: torch.device,
) -> Tally:
    """Attack rows and count.

    Args:
        attack: what is done to them, and whom it should fool.
        rows: of the data.
        labels: of all rows of the data.
        pixels: row → (C, H, W), 0-1.
        threshold: by which two classes are told apart, see `decide`.
        device: where the networks are.
    """
    tally = Tally()

    def is_right(images: Tensor, true: Tensor) -> Tensor:
        with torch.no_grad():
            return decide(attack.victim.logits(images).double().softmax(dim=1), threshold) == true

    for start in range(0, len(rows), _AT_ONCE):
        index = rows[start : start + _AT_ONCE].tolist()
        clean = torch.stack([pixels(row) for row in index]).to(device)  # (B, C, H, W)
        true = torch.as_tensor(labels[index], device=device)
        right = is_right(clean, true)
        tally.rows, tally.right = tally.rows + len(index), tally.right + int(right.sum())
        for eps in attack.options.eps:
            attacked = attack(clean, true, index, eps / UNIT)
            tally.add(eps, right, is_right(attacked.pixels, true), attacked.is_blind)
    return tally


def some_rows(rows: NDArray[np.int64], labels: NDArray[np.int64], wanted: int | None) -> NDArray[np.int64]:
    """`wanted` of the rows, of each class in proportion, drawn once for all: a smaller number is part of a larger one.

    Args:
        rows: of the data, ascending.
        labels: of all rows of the data.
        wanted: how many; None for all.

    Returns:
        Ascending rows.
    """
    if wanted is None:
        return rows
    with keyed("attacked rows"):
        shuffled = rows[torch.randperm(len(rows)).numpy()]
    places = np.empty(len(rows))
    for label in np.unique(labels[rows]):
        of_class = labels[shuffled] == label
        places[of_class] = (np.arange(of_class.sum()) + 0.5) / of_class.sum()
    return np.sort(shuffled[np.argsort(places, kind="stable")[:wanted]])
