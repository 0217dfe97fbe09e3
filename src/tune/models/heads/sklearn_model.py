from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch

from tune.errors import ConfigError, Problem, RunError
from tune.models.interface import FittedHead

if TYPE_CHECKING:
    from torch import Tensor

CLASSIFIERS = {
    "random_forest": "sklearn.ensemble.RandomForestClassifier",
    "extra_trees": "sklearn.ensemble.ExtraTreesClassifier",
    "decision_tree": "sklearn.tree.DecisionTreeClassifier",
    "gradient_boosting": "sklearn.ensemble.HistGradientBoostingClassifier",
    "ada_boost": "sklearn.ensemble.AdaBoostClassifier",
    "svm": "sklearn.svm.SVC",
    "linear_svm": "sklearn.svm.LinearSVC",
    "logistic_regression": "sklearn.linear_model.LogisticRegression",
    "knn": "sklearn.neighbors.KNeighborsClassifier",
    "naive_bayes": "sklearn.naive_bayes.GaussianNB",
    "discriminant": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
}
"""Classes by name, read by the checks too, which hold `options` against their signatures."""

_SCALED = frozenset({"svm", "linear_svm", "logistic_regression", "knn"})
_CALIBRATED = frozenset({"svm", "linear_svm"})
_DEFAULTS = {"logistic_regression": {"max_iter": 1000}}
"""Where scikit-learn's own default ends before the fit does."""

_TRUSTED = [
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
]
"""What a file may hold besides the types that skops knows to be harmless."""

_LEAST = 1e-7  # probability, so that its logarithm is finite


@final
class SklearnHead(FittedHead):
    """A classifier of scikit-learn on the features, which are standardised first for svm, linear_svm, knn and
    logistic_regression.

    Logits are log-probabilities, not below log 1e-7, so that their softmax is what the classifier says. The scores of
    svm and linear_svm become probabilities by a sigmoid on held-out rows (Platt 1999, "Probabilistic Outputs for
    Support Vector Machines", eq. 3), five-fold, or with as many folds as the smallest class has rows.

    The fitted classifier is part of the state, as bytes of skops: numbers and names of types, no code. Only types on a
    list are read back.

    Args:
        feature_dim: D, from the backbone.
        num_classes: K, from the data.
        name: of the classifier.
        options: arguments of its class; `random_state` is the run's seed unless it is given.

    Raises:
        ConfigError: if scikit-learn refuses an option.
    """

    def __init__(
        self,
        feature_dim: int,
        num_classes: int,
        name: Literal[
            "random_forest",
            "extra_trees",
            "decision_tree",
            "gradient_boosting",
            "ada_boost",
            "svm",
            "linear_svm",
            "logistic_regression",
            "knn",
            "naive_bayes",
            "discriminant",
        ] = "random_forest",
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.feature_dim, self.num_classes, self.name = feature_dim, num_classes, name
        self.options = {**_DEFAULTS.get(name, {}), **(options or {})}
        self.fitted: Any = None
        given = ", ".join(f"{key}={value!r}" for key, value in (options or {}).items())
        self.about = f"{CLASSIFIERS[name].rpartition('.')[2]}({given})"
        if "probability" in self.options:
            raise ConfigError(Problem("head.options.probability", "has no effect: there always are probabilities"))
        try:
            self._classifier().set_params(**self.options)._validate_params()  # what `fit` begins with
        except ValueError as error:
            raise ConfigError(Problem("head.options", str(error))) from error

    @property
    def takes_weights(self) -> bool:
        from sklearn.utils.validation import has_fit_parameter

        return has_fit_parameter(self._classifier(), "sample_weight")

    def fit(self, features: Tensor, labels: Tensor, weights: Tensor | None, seed: int) -> None:
        rows, truth = _numpy(features), labels.cpu().numpy()
        smallest = int(np.unique(truth, return_counts=True)[1].min())
        if self.name in _CALIBRATED and smallest < 2:
            raise RunError(f"head.name: {self.name} needs two training rows of each class, to calibrate its scores")
        steps = self._steps(seed, folds=min(5, smallest))
        weighted = {} if weights is None else {"classify__sample_weight": weights.cpu().double().numpy()}
        try:
            self.fitted = steps.fit(rows, truth, **weighted)
        except ValueError as error:
            raise RunError(f"head: {self.about} cannot be fitted: {error}") from error
        self.set_extra_state(self.get_extra_state())  # what cannot be read back shows now, not when it is loaded

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The features (B, D), and log-probabilities (B, K); before it is fitted all classes are equally likely."""
        probs = np.full((len(features), self.num_classes), 1 / self.num_classes)
        if self.fitted is not None:
            probs[:] = 0.0
            probs[:, self.fitted.classes_] = self.fitted.predict_proba(_numpy(features))
        logits = torch.from_numpy(probs).clamp_min(_LEAST).log().float()
        return features, logits.to(features.device)

    def get_extra_state(self) -> Tensor:
        """Bytes of the fitted classifier, (N,) uint8; none before it is fitted."""
        if self.fitted is None:
            return torch.zeros(0, dtype=torch.uint8)
        from skops.io import dumps

        return torch.frombuffer(bytearray(_same_bytes(dumps(self.fitted))), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the classifier that `get_extra_state` gave.

        Raises:
            RunError: if the bytes hold a type that is not on the list.
        """
        if not len(state):
            self.fitted = None
            return
        from skops.io import get_untrusted_types, loads

        data = state.cpu().numpy().tobytes()
        if strange := sorted(set(get_untrusted_types(data=data)) - set(_TRUSTED)):
            raise RunError(f"the head holds types that are not read back from a file: {', '.join(strange)}")
        self.fitted = loads(data, trusted=_TRUSTED)

    def _classifier(self) -> Any:
        module, _, name = CLASSIFIERS[self.name].rpartition(".")
        return getattr(import_module(module), name)()

    def _steps(self, seed: int, folds: int) -> Any:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.model_selection import StratifiedKFold
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import StandardScaler

        classifier = self._classifier()
        drawn = {"random_state": seed} if "random_state" in classifier.get_params(deep=False) else {}
        classifier.set_params(**drawn | self.options)
        if self.name in _CALIBRATED:
            whole: Any = False  # scikit-learn's annotation knows "auto" alone
            # Rows are drawn: where they stand in an order of their own, folds of neighbours calibrate to another world.
            parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
            classifier = CalibratedClassifierCV(classifier, ensemble=whole, cv=parts)
        scale = [("scale", StandardScaler())] if self.name in _SCALED else []
        return Pipeline([*scale, ("classify", classifier)])


def _numpy(features: Tensor) -> np.ndarray:
    return features.detach().cpu().double().numpy()


def _same_bytes(data: bytes) -> bytes:
    """The same archive of skops without what differs from one fit to the next: addresses, the time, unused bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as renamed:
        schema, files = json.loads(archive.read("schema.json")), {}
        for number, node in enumerate(_nodes(schema)):
            if "file" in node:
                node["file"] = files.setdefault(node["file"], f"{number}.{node['file'].rpartition('.')[2]}")
                number = int(node["file"].partition(".")[0])
            node["__id__"] = number + 1
        for old, new in [*files.items(), ("schema.json", "schema.json")]:
            content = json.dumps(schema) if old == new else _cleaned(archive.read(old))
            renamed.writestr(zipfile.ZipInfo(new), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _cleaned(content: bytes) -> bytes:
    """A file of numpy with zeros in the bytes between the fields of its records, which hold whatever was there."""
    if not content.startswith(b"\x93NUMPY") or (array := np.load(io.BytesIO(content))).dtype.names is None:
        return content
    clean, out = np.frombuffer(bytearray(array.nbytes), array.dtype).reshape(array.shape), io.BytesIO()
    for name in array.dtype.names:
        clean[name] = array[name]
    np.save(out, clean)
    return out.getvalue()


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with an address inside a schema of skops, in its order."""
    if isinstance(value, dict):
        if "__id__" in value:
            yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _nodes(inner)
