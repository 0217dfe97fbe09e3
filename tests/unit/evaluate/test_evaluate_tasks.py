from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.testing import assert_close

from tune.batch import Batch, Output
from tune.config.schema import TASK_METRICS
from tune.data.tasks.task import Task, TaskLabels
from tune.evaluate.tasks import TaskAnswers, answer, measure_task

N = 60
TASKS = {
    "type": Task("classification", ["mono", "poly"]),
    "faults": Task("multi_label", ["crack", "finger", "spot"]),
    "area": Task("regression", [], centre=120.0, scale=15.0),
}


def said_of(task: Task) -> torch.Tensor:
    return torch.randn(N, task.num_outputs)


def values_of(task: Task) -> torch.Tensor:
    draw = np.random.default_rng(1)
    if task.kind == "classification":
        values = draw.integers(0, len(task.classes), N).astype(float)
    elif task.kind == "multi_label":
        values = (draw.random((N, 3)) < 0.4).astype(float)
    else:
        values = draw.normal(120, 15, N)
    values[::4] = math.nan
    return torch.from_numpy(values)


def test_numbers_of_a_regression_are_in_the_unit_of_the_column():
    assert_close(answer(TASKS["area"], torch.tensor([[0.0], [2.0]])), torch.tensor([120.0, 150.0], dtype=torch.float64))


@pytest.mark.parametrize("name", TASKS)
def test_every_metric_that_a_config_may_name_is_measured(name):
    found = measure_task(TASKS[name], said_of(TASKS[name]), values_of(TASKS[name]))
    assert set(found) == set(TASK_METRICS[TASKS[name].kind])


def test_classification_is_measured_on_the_rows_that_have_a_label():
    task = TASKS["type"]
    said, values = said_of(task), values_of(task)
    given = ~values.isnan()
    found, truth, p = measure_task(task, said, values), values[given].long(), said[given].double().softmax(1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, p.argmax(1)))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, p.argmax(1)))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, p[:, 1]))
    assert found["loss"] == pytest.approx(sk.log_loss(truth, p.numpy()))


def test_multi_label_metrics_are_those_of_scikit_learn():
    task = TASKS["faults"]
    said, values = said_of(task), values_of(task)
    given = ~values[:, 0].isnan()
    found, truth, p = measure_task(task, said, values), values[given].int().numpy(), said[given].double().sigmoid()
    guess = (p > 0.5).int().numpy()
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert found["accuracy"] == pytest.approx((truth == guess).mean())
    assert found["f1_macro"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    assert found["f1_micro"] == pytest.approx(sk.f1_score(truth, guess, average="micro"))
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, p.numpy()))


def test_a_label_that_all_rows_have_leaves_the_mean_area_to_the_others():
    task, values = TASKS["faults"], values_of(TASKS["faults"]).nan_to_num()
    values[:, 2] = 1
    said = said_of(task)
    found = measure_task(task, said, values)
    areas = [sk.roc_auc_score(values[:, each], said[:, each]) for each in (0, 1)]
    assert found["auroc"] == pytest.approx(np.mean(areas))


def test_errors_of_a_regression_are_those_of_scikit_learn():
    task = TASKS["area"]
    said, values = said_of(task), values_of(task)
    given = ~values.isnan()
    found, truth, told = measure_task(task, said, values), values[given], said[given, 0].double() * 15 + 120
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, told))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, told))
    assert found["r2"] == pytest.approx(sk.r2_score(truth, told))
    assert found["loss"] == pytest.approx(sk.mean_squared_error(truth, told) / 15**2)


@pytest.mark.parametrize("name", TASKS)
def test_rows_without_labels_give_no_metric(name):
    values = torch.full_like(values_of(TASKS[name]), math.nan)
    assert measure_task(TASKS[name], said_of(TASKS[name]), values) == {}


@pytest.mark.parametrize("name", TASKS)
def test_what_is_not_finite_shows_in_the_loss(name):
    said = said_of(TASKS[name])
    said[1] = math.nan
    found = measure_task(TASKS[name], said, values_of(TASKS[name]))
    assert list(found) == ["loss"]
    assert math.isnan(found["loss"])


def test_answers_come_in_any_order_and_are_written_in_that_of_the_rows(tmp_path):
    values = {
        "type": np.array([0, math.nan, 1, 1]),
        "faults": np.array([[1, 0, 1], [math.nan] * 3, [0, 0, 0], [0, 1, 0]]),
        "area": np.array([100.0, math.nan, 120.0, 140.5]),
    }
    said = {"type": torch.eye(2)[[0, 1, 1, 0]] * 9, "faults": torch.randn(4, 3), "area": torch.arange(4.0)[:, None]}
    answers = TaskAnswers({name: TaskLabels(task, values[name]) for name, task in TASKS.items()})
    for rows in (torch.tensor([2, 0]), torch.tensor([3, 1])):
        tasks = {name: each[rows] for name, each in said.items()}
        nothing = torch.zeros(2, 1)
        answers.add(
            Batch(nothing, torch.zeros(2).long(), nothing, nothing, rows),
            Output(nothing, nothing, nothing, tasks=tasks),
        )
    found = answers.measure("val", torch.arange(4))
    assert found["type/accuracy"] == pytest.approx(2 / 3)
    answers.write(tmp_path, "val", ["one", "two", "three", "four"])
    rows = {name: list(csv.DictReader((tmp_path / f"val_{name}.csv").read_text().splitlines())) for name in TASKS}
    assert [row["label"] for row in rows["type"]] == ["mono", "", "poly", "poly"]
    assert [row["predicted"] for row in rows["type"]] == ["mono", "poly", "poly", "mono"]
    assert [row["label"] for row in rows["faults"]] == ["crack|spot", "", "|", "finger"]
    for row, outputs in zip(rows["faults"], said["faults"].sigmoid().tolist(), strict=True):
        names = [name for name, p in zip(TASKS["faults"].classes, outputs, strict=True) if p > 0.5]
        assert row["predicted"] == ("|".join(names) or "|")
        assert float(row["p_finger"]) == pytest.approx(outputs[1], abs=1e-6)
    assert [(row["path"], row["label"], row["predicted"]) for row in rows["area"]] == [
        ("one", "100", "120"),
        ("two", "", "135"),
        ("three", "120", "150"),
        ("four", "140.5", "165"),
    ]
