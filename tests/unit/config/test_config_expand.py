from __future__ import annotations

import itertools

import pytest

from tune.config.check import check
from tune.config.compose import ConfigTree
from tune.errors import ConfigError


def values(trials, *keys):
    return [tuple(trial.cfg[key] for key in keys) for trial in trials]


def test_the_last_key_varies_fastest(project):
    trials = project.expand("seed=3", "lr=1e-4,1e-3", "batch_size=16,32,64")
    assert values(trials, "lr", "batch_size") == list(itertools.product([1e-4, 1e-3], [16, 32, 64]))
    assert {trial.cfg["seed"] for trial in trials} == {3}
    assert trials[1].overrides == ["seed=3", "lr=1e-4", "batch_size=32"]
    assert trials[1].swept == ["lr=1e-4", "batch_size=32"]


def test_hydras_whole_grammar_expands(project):
    assert values(project.expand("seed=range(0,6,2)"), "seed") == [(0,), (2,), (4,)]
    assert values(project.expand("lr=choice(1e-3,0.5)"), "lr") == [(1e-3,), (0.5,)]
    for words in ("lr=1e-3,1e-2, 0.10", "lr=choice(1e-3, 1e-2,0.10)"):  # each as it was typed
        assert [trial.swept for trial in project.expand(words)] == [["lr=1e-3"], ["lr=1e-2"], ["lr=0.10"]]
    assert [trial.choices["freeze"] for trial in project.expand("freeze=glob([d*,m*])")] == ["deep", "mid"]
    assert values(project.expand("epochs=sort(3,1,2)"), "epochs") == [(1,), (2,), (3,)]
    assert [trial.cfg["optimizer"]["betas"] for trial in project.expand("optimizer.betas=[0.1,0.2],[0.3,0.4]")] == [
        [0.1, 0.2],
        [0.3, 0.4],
    ]


def test_the_words_of_a_trial_give_its_config_again(project):
    for trial in project.expand("lr=1e-5,3.3e-4,0.1", "name='a b','c,d'", "freeze=deep,mid", "seed=1"):
        assert project.compose(*trial.overrides).cfg == trial.cfg


def test_experiments_can_be_swept_with_or_without_plus(project):
    project.write(experiment__a="lr: 1\n", experiment__sub__b="lr: 2\n")
    for word in ("experiment=a,sub/b", "+experiment=a,sub/b"):
        assert values(project.expand(word), "name", "lr") == [("a", 1), ("sub-b", 2)]


def test_an_experiment_with_params_is_a_sweep_by_itself(project):
    project.write(experiment__s="sweep:\n  params:\n    lr: 1e-4,1e-3\n    freeze: [deep, mid]\n")
    assert project.compose("experiment=s").is_sweep
    assert not project.compose().is_sweep
    trials = project.expand("experiment=s", "seed=0,1")
    found = [(trial.cfg["seed"], trial.cfg["lr"], trial.choices["freeze"]) for trial in trials]
    assert found == list(itertools.product([0, 1], [1e-4, 1e-3], ["deep", "mid"]))
    assert not any(trial.is_sweep for trial in trials)


def test_the_command_line_replaces_an_axis_of_the_experiment(project):
    project.write(experiment__s="sweep:\n  params:\n    lr: 1e-4,1e-3\n    seed: 1,2\n")
    assert values(project.expand("experiment=s", "lr=5"), "lr", "seed") == [(5, 1), (5, 2)]


def test_a_misspelt_axis_of_an_experiment_is_reported_where_it_stands(project):
    project.write(experiment__s="defaults:\n  - override /data: synthetic\nsweep:\n  params:\n    lerning_rate: 1,2\n")
    problems = {problem for trial in project.expand("experiment=s") for problem in check(trial, ConfigTree())}
    (problem,) = problems
    assert (problem.key, problem.where) == ("lerning_rate", "conf/experiment/s.yaml:5")


def test_trials_do_not_share_what_they_hold(project):
    first, second = project.expand("lr=1,2")
    first.cfg["optimizer"]["betas"].append(5)
    assert second.cfg["optimizer"]["betas"] == [0.9, 0.999]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lr=interval(0,1)", "has no end of values"),
        ("seed=range(5,0)", "stands for no value"),
        ("seed=1,1", "lists 1 twice"),
        ("lr=1e-2,0.1,0.010", "lists 0.01 twice"),
        ("lr=1,(", "cannot be read"),
    ],
)
def test_what_cannot_be_enumerated_is_refused(project, word, said):
    with pytest.raises(ConfigError, match=said):
        project.expand(word)


def test_two_hundred_trials_are_expanded_and_checked(project):
    trials = project.expand("experiment=quickstart", "lr=range(1,11)", "seed=range(0,10)", "freeze=deep,mid")
    problems = [check(trial, ConfigTree()) for trial in trials]
    assert len(trials) == 200
    assert not any(problems)


CASES = """
    epochs: 7
    sweep:
      cases:
        small: [freeze=deep, lr=1]
        large: [freeze=full, lr=2, backbone.weights=none]
      params:
        seed: 1,2
"""


def test_cases_set_several_keys_at_once_and_are_crossed_with_params(project):
    project.write(experiment__s=CASES)
    assert project.compose("experiment=s").is_sweep
    trials = project.expand("experiment=s", "batch_size=8,16")
    found = [(each.cfg["batch_size"], each.choices["case"], each.cfg["lr"], each.cfg["seed"]) for each in trials]
    cases = [("small", 1), ("large", 2)]
    assert found == [(rows, *case, seed) for rows, case, seed in itertools.product([8, 16], cases, [1, 2])]
    assert [trial.choices["freeze"] for trial in trials[:4]] == ["deep", "deep", "full", "full"]
    assert trials[2].cfg["backbone"]["weights"] == "none"
    assert trials[0].cfg["backbone"]["weights"] != "none"
    assert trials[0].overrides == ["experiment=s", "batch_size=8", "freeze=deep", "lr=1", "seed=1"]
    assert trials[0].swept == ["batch_size=8", "freeze=deep", "lr=1", "seed=1"]
    assert not any(trial.is_sweep for trial in trials)
    assert not any(check(trial, ConfigTree()) for trial in project.expand("experiment=s", "data=synthetic"))


def test_the_command_line_wins_over_a_case_and_equal_cases_become_one(project):
    project.write(experiment__s=CASES)
    trials = project.expand("experiment=s", "lr=5", "seed=0")
    assert [(trial.cfg["lr"], trial.choices["freeze"]) for trial in trials] == [(5, "deep"), (5, "full")]
    (trial,) = project.expand("experiment=s", "lr=5", "seed=0", "freeze=mid", "backbone.weights=package")
    assert (trial.choices["freeze"], trial.choices["case"]) == ("mid", "small")


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ("{a: ['lr=1,2']}", "lr has several values; a case is one run"),
        ("{a: [seed=3]}", "seed is in sweep.params too"),
        ("{a: [experiment=quickstart]}", "experiment cannot be set in a case"),
        ("{a: [sweep.jobs=2]}", "sweep.jobs cannot be set in a case"),
        ("{a: ['lr=(']}", "lr: cannot be read"),
        ("{a: lr=1}", "must be a list of words"),
        ("{a: [1]}", "must be a list of words"),
    ],
)
def test_a_case_that_cannot_be_is_reported_by_its_name_where_it_stands(project, cases, said):
    project.write(experiment__s=f"sweep:\n  cases: {cases}\n  params:\n    seed: 1,2\n")
    (problem, *_) = project.expand("experiment=s", "data=synthetic")[0].problems
    assert (problem.key, problem.where) == ("sweep.cases.a", "conf/experiment/s.yaml:2")
    assert said in problem.text


def test_a_key_of_a_case_that_nothing_takes_is_reported(project):
    project.write(experiment__s="sweep:\n  cases:\n    a: [lerning_rate=1]\n")
    (trial,) = project.expand("experiment=s", "data=synthetic")
    assert [problem.key for problem in check(trial, ConfigTree())] == ["lerning_rate"]
