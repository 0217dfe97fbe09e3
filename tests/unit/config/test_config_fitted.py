"""Words that have no effect on a head that is fitted at once, found without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tune.config.across.fitted import is_fitted

SKLEARN = ("data=synthetic", "head=sklearn")


@pytest.mark.parametrize(
    "word",
    [
        "lr=1",
        "epochs=3",
        "batch_size=8",
        "init=he",
        "init.kind=he",
        "optimizer=sgd",
        "optimizer.eps=1e-7",
        "scheduler=step",
        "regularize=l1",
        "regularize.dropout=0.2",
        "+trainer.limit_train_batches=2",
    ],
)
def test_a_typed_word_that_has_no_effect_is_refused_by_its_name(project, word):
    key = word.lstrip("+").partition("=")[0]
    told = project.told(*SKLEARN, word)
    assert "has no effect with head=sklearn" in told[key]
    assert key not in project.told("data=synthetic", word)


def test_each_is_told_beside_the_others(project):
    words = ("lr=1", "trainer=cpu", "+trainer.limit_train_batches=2", "optimizer=sgd", "regularize={l1: 1}")
    assert list(project.told(*SKLEARN, *words)) == ["lr", "regularize", "optimizer", "trainer.limit_train_batches"]


def test_what_has_an_effect_may_be_typed(project):
    words = ("seed=1", "trainer=cpu", "trainer.devices=1", "loss=weighted", "objective=val/f1", "precision=32-true")
    assert project.told(*SKLEARN, "head.name=svm", "head.options={C: 2, kernel: poly}", *words) == {}


def test_what_an_experiment_sets_is_let_be(project):
    project.write(
        experiment__mine="""
            # Mine.
            defaults:
              - override /data: synthetic
              - override /optimizer: sgd
            lr: 0.1
            epochs: 3
            regularize:
              l1: 0.1
            """
    )
    assert project.told("experiment=mine", "head=sklearn") == {}


def test_an_option_that_the_classifier_does_not_have_is_told_with_the_nearest(project):
    told = project.told(*SKLEARN, "head.name=svm", "head.options.gama=1")
    assert "Did you mean head.options.gamma?" in told["head.options.gama"]
    assert "head.options.gamma" not in project.told(*SKLEARN, "head.name=svm", "head.options.gamma=1")
    assert "n_estimators" in project.told(*SKLEARN, "head.options.gamma=1")["head.options.gamma"]
    assert "must be one of random_forest" in project.told(*SKLEARN, "head.name=boost")["head.name"]


def test_a_head_of_ones_own_is_fitted_where_its_class_says_so(project, monkeypatch):
    project.file(
        "own_heads.py",
        """
        from tune.models.interface import FittedHead, Head
        class Fitted(FittedHead): ...
        class Deeper(Fitted): ...
        class Trained(Head): ...
        """,
    )
    monkeypatch.syspath_prepend(str(project.folder))
    assert [is_fitted({"_target_": f"own_heads.{name}"}) for name in ("Fitted", "Deeper", "Trained")] == [
        True,
        True,
        False,
    ]
    assert not is_fitted({"_target_": "tune.models.heads.linear.LinearHead"})


def test_neither_torch_nor_scikit_learn_is_imported():
    code = (
        "import sys; from tune.config.check import check; from tune.config.compose import ConfigTree, compose;"
        "t = ConfigTree(); c = compose(t, ['data=synthetic', 'head=sklearn', 'head.options.x=1']); print(check(c, t));"
        "assert not {'torch', 'sklearn', 'skops'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "head.options.x" in done.stdout
