"""Members that are trained one after the other, each on rows weighted by the mistakes of those before.

Zhu et al. 2009, "Multi-class AdaBoost", algorithm 2 (SAMME), on a frozen backbone whose features are kept: a member is
a head, trained as any trial is. All members are trained in one go, from the first on, also when some are done already,
because each follows from those before; on a CPU they come out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tune.evaluate.ensemble import boost_weight
from tune.train.fused.learner import FusedLearner
from tune.train.prepare import Prepared


class Boosting:
    """The weights of the training rows, from one member to the next.

    Args:
        prepared: what the members have in common.

    Attributes:
        weights: (N,) of the training rows, 1 on average.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.rows = torch.from_numpy(prepared.parts.train)
        self.labels = torch.as_tensor(prepared.table.labels, dtype=torch.int64)[self.rows]
        given = prepared.table.weights
        self.weights = torch.ones(len(self.rows), dtype=torch.float64)
        if given is not None:
            self.weights *= torch.from_numpy(given)[self.rows].double()
        self.weights /= self.weights.mean()

    def begin(self) -> None:
        """Let the next member see the rows with their weights."""
        weights = torch.ones(len(self.prepared.table), dtype=torch.float64)
        weights[self.rows] = self.weights
        self.prepared.data.weigh(weights)

    def end(self, learner: FusedLearner) -> dict[str, float]:
        """Weigh anew after a member, whose best weights the learner holds. What its record says of it."""
        if not learner.alive:  # it diverged
            return {"error": 1.0, "weight": 0.0}
        wrong = self._predicted(learner) != self.labels
        error = float(self.weights[wrong].sum() / self.weights.sum())
        weight = boost_weight(error, self.prepared.table.num_classes, len(self.rows))
        self.weights = self.weights * torch.where(wrong, torch.tensor(weight).exp(), torch.tensor(1.0)).double()
        self.weights /= self.weights.mean()
        return {"error": error, "weight": weight}

    @torch.no_grad()
    def _predicted(self, learner: FusedLearner) -> Tensor:
        """(N,) classes that the learner's one head predicts for the training rows."""
        learner.seen.clear()
        for batches in self.prepared.data.eval_rows("train"):
            learner.look(batches["target"])
        index, probs, _ = learner.seen_so_far()
        assert torch.equal(index, self.rows.sort().values)
        return probs[0].argmax(dim=1)


def all_members(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Jobs of all members up to the last that is asked for, in order; without `run_dir` where one is done already."""
    asked = {job["config"]["ensemble"]["member"]: job for job in jobs}
    first = jobs[0]["config"]
    return [
        asked.get(number)
        or {"config": {**first, "ensemble": {**first["ensemble"], "member": number}}, "record": {}, "run_dir": ""}
        for number in range(max(asked) + 1)
    ]
