from __future__ import annotations

import inspect
from typing import get_args, get_type_hints

import numpy as np
import pytest
import skops.io
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch.testing import assert_close

from tune.errors import ConfigError, RunError
from tune.models.heads.sklearn_model import CLASSIFIERS, SklearnHead

SMALL = {"random_forest": {"n_estimators": 5}, "extra_trees": {"n_estimators": 5}, "gradient_boosting": {"max_iter": 5}}


@pytest.fixture
def rows():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 120)
    features = (draw.normal(size=(120, 6)) * [1, 1, 1, 50, 1, 1] + np.eye(3, 6)[labels] * 2).astype(np.float32)
    return torch.from_numpy(features), torch.from_numpy(labels)


def fitted(rows, name, options=None, weights=None, seed=3):
    head = SklearnHead(6, 3, name, options if options is not None else SMALL.get(name))
    head.fit(*rows, weights, seed)
    return head


def probabilities(head, features):
    return head(features)[1].double().softmax(dim=1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_what_was_fitted_comes_back_from_the_state_to_the_bit(rows, name):
    head = fitted(rows, name)
    stored = head.state_dict()
    assert torch.equal(stored["_extra_state"], fitted(rows, name).state_dict()["_extra_state"])
    again = SklearnHead(6, 3, name, SMALL.get(name))
    again.load_state_dict(stored)
    assert not list(head.parameters())
    assert torch.equal(head(rows[0])[1], again(rows[0])[1])
    assert (probabilities(head, rows[0]).argmax(dim=1) == rows[1]).float().mean() > 0.7


def test_the_names_of_the_signature_are_those_of_the_table():
    hints = get_type_hints(SklearnHead.__init__)
    assert get_args(hints["name"]) == tuple(CLASSIFIERS)
    assert inspect.signature(SklearnHead).parameters["name"].default in CLASSIFIERS


def test_probabilities_are_those_of_scikit_learn(rows):
    features, labels = rows[0].numpy().astype(np.float64), rows[1].numpy()
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    same = {
        "random_forest": RandomForestClassifier(n_estimators=5, random_state=3),
        "gradient_boosting": HistGradientBoostingClassifier(max_iter=5, random_state=3),
        "logistic_regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "svm": make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(random_state=3), ensemble=False, cv=folds)),
    }
    for name, classifier in same.items():
        expected = np.clip(classifier.fit(features, labels).predict_proba(features), 1e-7, 1)
        found = probabilities(fitted(rows, name), rows[0]).numpy()
        assert found == pytest.approx(expected, abs=1e-6), name


def test_a_row_of_weight_two_counts_as_two_rows(rows):
    features, labels = rows
    weights = torch.ones(120)
    weights[:40] = 2.0
    options = {"max_iter": 5000, "tol": 1e-8}
    twice = torch.cat([features, features[:40]]), torch.cat([labels, labels[:40]])
    assert SklearnHead(6, 3, "svm").takes_weights
    assert not SklearnHead(6, 3, "knn").takes_weights
    weighted = fitted(rows, "logistic_regression", options, weights).fitted.named_steps["classify"]
    scale = fitted(rows, "logistic_regression").fitted.named_steps["scale"]
    oracle = LogisticRegression(**options).fit(scale.transform(twice[0].double().numpy()), twice[1].numpy())
    assert weighted.coef_ == pytest.approx(oracle.coef_, abs=1e-4)


def test_a_class_without_training_rows_has_next_to_no_probability(rows):
    features, labels = rows
    head = fitted((features[labels != 1], labels[labels != 1]), "random_forest")
    probs = probabilities(head, features)
    assert probs.shape == (120, 3)
    assert_close(probs[:, 1], torch.full((120,), 1e-7, dtype=torch.float64), rtol=1e-4, atol=0)


def test_the_run_s_seed_is_the_classifier_s_unless_it_has_one(rows):
    first, other = (probabilities(fitted(rows, "random_forest", seed=seed), rows[0]) for seed in (1, 2))
    assert not torch.equal(first, other)
    own = [fitted(rows, "random_forest", {"n_estimators": 5, "random_state": 1}, seed=seed) for seed in (1, 2)]
    assert torch.equal(probabilities(own[0], rows[0]), first)
    assert torch.equal(probabilities(own[1], rows[0]), first)


def test_before_it_is_fitted_all_classes_are_equally_likely(rows):
    head = SklearnHead(6, 3)
    assert_close(probabilities(head, rows[0]), torch.full((120, 3), 1 / 3, dtype=torch.float64))
    assert len(head.state_dict()["_extra_state"]) == 0


class Stranger:
    """Of no list."""

    def __init__(self) -> None:
        self.number = 1


def test_a_file_with_a_type_of_no_list_is_not_read():
    data = torch.frombuffer(bytearray(skops.io.dumps(Stranger())), dtype=torch.uint8)
    with pytest.raises(RunError, match="Stranger"):
        SklearnHead(6, 3).load_state_dict({"_extra_state": data})


@pytest.mark.parametrize(
    ("name", "options"),
    [("random_forest", {"n_estimators": -1}), ("knn", {"n_neighbours": 3}), ("svm", {"probability": True})],
)
def test_what_the_classifier_does_not_take_is_refused(name, options):
    with pytest.raises(ConfigError, match=r"head\.options"):
        SklearnHead(6, 3, name, options)


def test_what_cannot_be_fitted_says_why(rows):
    features, labels = rows
    with pytest.raises(RunError, match="two training rows of each class"):
        fitted((features[:3], torch.tensor([0, 0, 1])), "svm")
    features[3, 2] = float("nan")
    with pytest.raises(RunError, match="cannot be fitted"):
        fitted((features, labels), "logistic_regression")
