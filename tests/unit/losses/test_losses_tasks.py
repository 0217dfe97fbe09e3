from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from tune.batch import Batch, Output
from tune.losses.center import Center
from tune.losses.cross_entropy import CrossEntropy
from tune.losses.tasks import TaskLosses

NAN = math.nan
TASKS = {"type": ("classification", 1.0), "faults": ("multi_label", 0.5), "area": ("regression", 2.0)}


@pytest.fixture
def batch() -> Batch:
    labels = torch.tensor([0, 1, 1, 0, 2])
    tasks = {
        "type": torch.tensor([1.0, NAN, 0.0, 2.0, NAN]),
        "faults": torch.tensor([[0.0, 1.0], [NAN, NAN], [1.0, 1.0], [NAN, NAN], [0.0, 0.0]]),
        "area": torch.tensor([0.5, NAN, NAN, -1.5, 0.25]),
    }
    probs = torch.nn.functional.one_hot(labels, 3).float()
    return Batch(
        torch.zeros(5, 4), labels, probs, torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]), torch.arange(5), tasks=tasks
    )


@pytest.fixture
def output() -> Output:
    said = {"type": torch.randn(5, 3), "faults": torch.randn(5, 2), "area": torch.randn(5, 1)}
    return Output(torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 3), tasks=said)


def slow(output: Output, batch: Batch) -> dict[str, float]:
    """Mean loss of each task, weighted over the rows that have a label, row by row."""
    found = {}
    for name, (kind, _) in TASKS.items():
        total = weight = 0.0
        for row in range(5):
            said, aim = output.tasks[name][row].tolist(), batch.tasks[name][row].tolist()
            if (aim[0] if isinstance(aim, list) else aim) != (aim[0] if isinstance(aim, list) else aim):
                continue
            if kind == "classification":
                loss = math.log(sum(math.exp(each) for each in said)) - said[int(aim)]
            elif kind == "regression":
                loss = (said[0] - aim) ** 2
            else:
                p = [1 / (1 + math.exp(-each)) for each in said]
                loss = sum(-math.log(q if has else 1 - q) for q, has in zip(p, aim, strict=True)) / len(p)
            total += float(batch.weights[row]) * loss
            weight += float(batch.weights[row])
        found[name] = total / weight
    return found


def test_each_task_is_the_mean_over_the_rows_that_have_a_label_times_its_weight(output, batch):
    terms = TaskLosses(CrossEntropy(), TASKS).terms(output, batch)
    assert list(terms) == ["loss", "type/loss", "faults/loss", "area/loss"]
    assert_close(terms["loss"], CrossEntropy()(output, batch))
    for name, mean in slow(output, batch).items():
        assert float(terms[f"{name}/loss"]) == pytest.approx(TASKS[name][1] * mean, rel=1e-5)


def test_learned_weights_follow_kendall(output, batch):
    loss = TaskLosses(CrossEntropy(), TASKS, learned=True)
    s = [0.3, -0.7, 1.1, 0.4]
    with torch.no_grad():
        loss.log_variances.copy_(torch.tensor(s))
    means = slow(output, batch)
    expected = math.exp(-s[0]) * float(CrossEntropy()(output, batch)) + sum(s) / 2
    expected += math.exp(-s[1]) * means["type"] + math.exp(-s[2]) * means["faults"]
    expected += math.exp(-s[3]) / 2 * means["area"]
    assert loss(output, batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_best_log_variance_of_a_constant_loss_is_known(output, batch):
    loss = TaskLosses(CrossEntropy(), TASKS, learned=True)
    optimizer = torch.optim.LBFGS(loss.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = loss(output, batch)
        total.backward()
        return total

    optimizer.step(closure)
    means = slow(output, batch)
    label = float(CrossEntropy()(output, batch))
    best = [math.log(2 * label), math.log(2 * means["type"]), math.log(2 * means["faults"]), math.log(means["area"])]
    assert_close(loss.log_variances.detach(), torch.tensor(best), atol=1e-3, rtol=0)


def test_without_a_label_in_the_batch_a_task_moves_nothing(output, batch):
    batch.tasks = {name: torch.full_like(aims, NAN) for name, aims in batch.tasks.items()}
    output.tasks = {name: said.requires_grad_() for name, said in output.tasks.items()}
    loss = TaskLosses(CrossEntropy(), TASKS, learned=True)
    loss(output, batch).backward()
    assert loss.log_variances.grad[1:].abs().sum() == 0
    assert loss.log_variances.grad[0] != 0
    assert all(said.grad.abs().sum() == 0 for said in output.tasks.values())


def test_outside_training_the_loss_is_that_of_the_label(output, batch):
    loss = TaskLosses(CrossEntropy(), TASKS, learned=True).eval()
    assert_close(loss(output, batch), CrossEntropy()(output, batch))


def test_terms_of_the_label_and_what_they_ask_for_are_kept(output, batch):
    label = Center(num_classes=3, embedding_dim=4)
    loss = TaskLosses(label, TASKS)
    assert loss.shapes_embedding
    assert {"loss", "center", "type/loss"} <= loss.terms(output, batch).keys()
