"""How well an embedding finds rows of the same class: each row asks, all others answer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

METRICS = ("recall_at_1", "recall_at_5", "map")

_QUERIES = 256  # rows that ask at once: memory is this times N


def retrieval(embedding: Tensor, labels: Tensor) -> dict[str, float]:
    """Recall at 1 and 5 and mean average precision, as fractions of 1; empty if no row has another of its class.

    Rows are ordered by the cosine between embeddings. Recall at k is the share of rows with one of their class among
    the k nearest; average precision is the mean, over the others of a row's class, of the share of its class up to
    there. Rows whose class has no other row do not ask. Why recall alone is not enough: Musgrave et al. 2020, "A Metric
    Learning Reality Check", section 3.2.

    Args:
        embedding: (N, E).
        labels: (N,).
    """
    unit = F.normalize(embedding.float(), dim=1)
    found: list[Tensor] = []
    for start in range(0, len(unit), _QUERIES):
        asked = torch.arange(start, min(start + _QUERIES, len(unit)))
        near = unit[asked] @ unit.T  # (Q, N)
        near[torch.arange(len(asked)), asked] = -torch.inf
        order = near.argsort(dim=1, descending=True, stable=True)[:, :-1]  # (Q, N - 1); the row itself comes last
        same = labels[order] == labels[asked][:, None]
        total = same.sum(dim=1)
        precision = same.cumsum(dim=1) / torch.arange(1, same.shape[1] + 1)
        average = (precision * same).sum(dim=1) / total.clamp_min(1)
        each = torch.stack([same[:, :1].any(dim=1), same[:, :5].any(dim=1), average], dim=1).double()
        found.append(each[total > 0])
    rows = torch.cat(found) if found else torch.zeros(0, len(METRICS))
    return dict(zip(METRICS, rows.mean(dim=0).tolist(), strict=True)) if len(rows) else {}
