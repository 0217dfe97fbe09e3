from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_hit_rate

from tune.evaluate.retrieval import retrieval


def test_every_row_asks_all_others_as_torchmetrics_says():
    torch.manual_seed(0)
    embedding, labels = torch.randn(300, 5), torch.randint(0, 7, (300,))
    labels[:3] = torch.tensor([90, 91, 92])  # classes of one row, which cannot ask
    found: dict[str, list[float]] = {"recall_at_1": [], "recall_at_5": [], "map": []}
    unit = F.normalize(embedding, dim=1)
    for row in range(3, 300):
        others = [other for other in range(300) if other != row]
        # torchmetrics takes only scores above 0 for answers
        near, same = 2 + unit[others] @ unit[row], labels[others] == labels[row]
        found["recall_at_1"].append(float(retrieval_hit_rate(near, same, top_k=1)))
        found["recall_at_5"].append(float(retrieval_hit_rate(near, same, top_k=5)))
        found["map"].append(float(retrieval_average_precision(near, same)))
    means = {name: sum(values) / len(values) for name, values in found.items()}
    assert retrieval(embedding, labels) == pytest.approx(means, abs=1e-6)


def test_classes_far_apart_are_found_perfectly_and_single_rows_not_at_all():
    labels = torch.arange(10) % 2
    embedding = F.one_hot(labels, 2).float() + 0.01 * torch.rand(10, 2)
    assert retrieval(embedding, labels) == {"recall_at_1": 1.0, "recall_at_5": 1.0, "map": 1.0}
    assert retrieval(embedding, torch.arange(10)) == {}
