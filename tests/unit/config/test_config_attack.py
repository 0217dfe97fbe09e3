from __future__ import annotations

import pytest

BASE = "data=synthetic"


@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        (["evaluate.attack=fgsm"], "", ""),
        (["evaluate.attack=pgd", "evaluate.eps=[0.5,255]", "evaluate.steps=2", "evaluate.rows=9"], "", ""),
        (["evaluate.attack=teacher", "evaluate.teacher=package"], "", ""),
        (["evaluate.attack=deepfool"], "evaluate.attack", "must be one of fgsm, pgd, teacher"),
        (["evaluate.attack=pgd", "evaluate.eps=[0,8]"], "evaluate.eps.0", "must be a number in (0, 255], not 0"),
        (["evaluate.attack=pgd", "evaluate.eps=[8,256]"], "evaluate.eps.1", "must be a number in (0, 255], not 256"),
        (["evaluate.attack=pgd", "evaluate.eps=[.nan]"], "evaluate.eps.0", "must be a number, not"),
        (["evaluate.attack=pgd", "evaluate.eps=8"], "evaluate.eps", "must be a list"),
        (["evaluate.attack=pgd", "evaluate.eps=[]"], "evaluate.eps", "is empty"),
        (["evaluate.attack=pgd", "evaluate.eps=[2,8,2.0]"], "evaluate.eps", "has a value twice"),
        (["evaluate.attack=pgd", "evaluate.steps=0"], "evaluate.steps", "in [1, 1000]"),
        (["evaluate.attack=pgd", "evaluate.rows=0"], "evaluate.rows", "in [1, inf)"),
        (["evaluate.attack=fgsm", "evaluate.steps=3"], "evaluate.steps", "has no effect with evaluate.attack=fgsm"),
        (["evaluate.attack=pgd", "evaluate.teacher=package"], "evaluate.teacher", "has no effect with"),
        (["evaluate.eps=[8]"], "evaluate.eps", "has no effect without evaluate.attack"),
        (["evaluate.attack=null", "evaluate.rows=8"], "evaluate.rows", "has no effect without evaluate.attack"),
        (["evaluate.atack=fgsm"], "evaluate.atack", "Did you mean evaluate.attack, now null?"),
        (["evaluate.attack=pgd", "head=sklearn"], "evaluate.attack", "needs a gradient"),
        (["evaluate.attack=fgsm", "head=sklearn"], "evaluate.attack", "needs a gradient"),
        (["evaluate.attack=teacher", "head=sklearn"], "", ""),
        (["objective=test/attack_success@8", "evaluate.attack=fgsm"], "objective", "would flatter"),
    ],
)
def test_a_mistake_is_told_by_its_key(project, words, key, said):
    told = project.told(BASE, *words)
    assert list(told) == ([key] if key else [])
    assert said in told.get(key, "")


MINE = "defaults:\n  - override /data: synthetic\nevaluate:\n  attack: teacher\n  steps: 3\n  rows: 9\n"


def test_an_experiment_with_an_attack_can_be_tried_with_another_or_none(project):
    project.write(experiment__mine=MINE)
    for words in ([], ["evaluate.attack=null"], ["evaluate.attack=fgsm"], ["evaluate.attack=pgd"]):
        assert project.told("experiment=mine", *words) == {}
    assert list(project.told("experiment=mine", "evaluate.attack=fgsm", "evaluate.steps=2")) == ["evaluate.steps"]


def test_what_a_file_says_without_effect_is_told_with_its_line(project):
    project.write(experiment__mine=MINE.replace("teacher", "fgsm"))
    (problem,) = project.problems("experiment=mine")
    assert (problem.key, problem.where) == ("evaluate.steps", "conf/experiment/mine.yaml:5")
