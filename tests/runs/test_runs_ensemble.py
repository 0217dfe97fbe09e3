"""Ensembles from the command line: members are ordinary trials, and what they say together can be checked by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tune
from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.data.table import Table
from tune.evaluate.ensemble import boost_weight
from tune.train.rows import read_rows

pytestmark = pytest.mark.filterwarnings("default")

DATA = ["data=synthetic", "data.rows=150"]
DRAWN = [*DATA, "backbone.input_size=32", "batch_size=16", "epochs=2", "lr=3e-3", "precision=32-true", "trainer=cpu"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def go(tmp_path, monkeypatch, capsys, cache):
    """Runs `tune WORDS --json` in an empty folder; gives the exit code, the answer and what was said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)

    def run(*words: str):
        code = main([*words, "--json"])
        said = capsys.readouterr()
        answer = json.loads(said.out.splitlines()[-1]) if said.out else {}
        return code, answer, said.out + said.err

    return run


def record(run_dir: str | Path) -> dict:
    return json.loads((Path(run_dir) / "run.json").read_text())


def probs_of(run_dir: str | Path, part: str = "test") -> np.ndarray:
    with (Path(run_dir) / "predictions" / f"{part}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(value) for key, value in row.items() if key.startswith("p_")] for row in rows])


def labels_of(run_dir: str | Path, part: str = "test") -> list[str]:
    with (Path(run_dir) / "predictions" / f"{part}.csv").open() as file:
        return [row["label"] for row in csv.DictReader(file)]


def drawn() -> Table:
    table, _ = read_rows(compose(ConfigTree(), DATA).cfg["data"])
    return table


def test_bagged_heads_train_as_one_and_their_average_is_written_and_loaded(go):
    code, answer, said = go("run", *DRAWN, "ensemble=bagging", "ensemble.members=3")
    assert code == 0, said
    assert answer["fused_groups"] == 1
    assert "average of 3: test accuracy" in said
    runs = [trial["run_dir"] for trial in answer["trials"]]
    apart = [probs_of(run) for run in runs]
    assert not np.allclose(apart[0], apart[1], atol=1e-4)
    (ensemble,) = answer["ensembles"]
    assert probs_of(ensemble["run_dir"]) == pytest.approx(np.mean(apart, axis=0), abs=2e-6)
    right = [
        drawn().classes[row.argmax()] == label
        for row, label in zip(probs_of(ensemble["run_dir"]), labels_of(runs[0]), strict=True)
    ]
    assert ensemble["metrics"]["test/accuracy"] == pytest.approx(np.mean(right))
    loaded = tune.load(ensemble["run_dir"])
    assert len({id(member.network.backbone) for member in loaded.members}) == 1
    table = drawn()
    with (Path(runs[0]) / "predictions" / "test.csv").open() as file:
        rows = [int(row["row"]) for row in csv.DictReader(file)]
    found = loaded.predict([table.images[row] for row in rows])
    assert found.numpy() == pytest.approx(probs_of(ensemble["run_dir"]), abs=1e-4)


@pytest.mark.slow
def test_a_draw_of_rows_alone_is_the_one_in_a_group(go, tmp_path):
    _, answer, _ = go("run", *DRAWN, "ensemble=bagging", "ensemble.members=2")
    code, alone, said = go("run", *DRAWN, "data.bootstrap=1")
    assert code == 0, said
    assert probs_of(answer["trials"][1]["run_dir"]) == pytest.approx(probs_of(alone["run_dir"]), abs=1e-5)


def test_boosted_members_follow_samme(go):
    """Weights of rows and votes, worked out again from the members' own networks."""
    code, answer, said = go("run", *DRAWN, "ensemble=boosting", "ensemble.members=3", "lr=1e-4", "epochs=1")
    assert code == 0, said
    runs = [trial["run_dir"] for trial in answer["trials"]]
    table = drawn()
    outside = {row for part in ("val", "test") for row in _rows(runs[0], part)}
    train = [row for row in range(len(table)) if row not in outside]
    labels = np.array(table.labels)[train]
    weights = np.ones(len(train)) / len(train)
    votes = []
    for run in runs:
        predicted = tune.load(run).predict([table.images[row] for row in train]).argmax(dim=1).numpy()
        wrong = predicted != labels
        error = weights[wrong].sum()
        assert record(run)["boost"]["error"] == pytest.approx(error, abs=1e-6)
        votes.append(boost_weight(error, 3, len(train)))
        assert record(run)["boost"]["weight"] == pytest.approx(votes[-1], rel=1e-5)
        weights = weights * np.exp(votes[-1] * wrong)
        weights /= weights.sum()
    assert len(set(votes)) == 3
    scores = sum(vote * np.eye(3)[probs_of(run).argmax(axis=1)] for vote, run in zip(votes, runs, strict=True))
    assert probs_of(answer["ensembles"][0]["run_dir"]) == pytest.approx(scores / sum(votes), abs=1e-5)


def _rows(run: str, part: str) -> list[int]:
    with (Path(run) / "predictions" / f"{part}.csv").open() as file:
        return [int(row["row"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_lost_boosted_member_comes_back_the_same(go):
    import shutil

    words = ("run", *DRAWN, "ensemble=boosting", "ensemble.members=3")
    _, answer, _ = go(*words)
    lost = Path(answer["trials"][2]["run_dir"])
    before = probs_of(lost)
    shutil.rmtree(lost)
    code, again, said = go(*words)
    assert code == 0, said
    assert probs_of(again["trials"][2]["run_dir"]) == pytest.approx(before, abs=1e-6)
    assert again["ensembles"][0]["metrics"] == pytest.approx(answer["ensembles"][0]["metrics"])


def test_a_stack_learns_from_rows_that_its_members_did_not_see(go):
    code, answer, said = go("run", "-m", *DRAWN, "head=linear,mlp", "ensemble=stacking", "ensemble.folds=3")
    assert code == 0, said
    assert len(answer["trials"]) == 6
    folds = [_rows(trial["run_dir"], "val") for trial in answer["trials"][:3]]
    (ensemble,) = answer["ensembles"]
    assert sorted(_rows(ensemble["run_dir"], "val")) == sorted(row for fold in folds for row in fold)
    loaded = tune.load(ensemble["run_dir"])
    table = drawn()
    found = loaded.predict([table.images[row] for row in _rows(ensemble["run_dir"], "test")])
    assert found.numpy() == pytest.approx(probs_of(ensemble["run_dir"]), abs=1e-3)


def test_a_soup_is_the_average_of_the_weights_that_do_not_make_it_worse(go):
    words = ["lr=1e-3,3e-3,3e-1", "ensemble=soup"]
    code, answer, said = go("run", "-m", *[word for word in DRAWN if not word.startswith("lr=")], *words)
    assert code == 0, said
    (ensemble,) = answer["ensembles"]
    table = drawn()
    rows = _rows(answer["trials"][0]["run_dir"], "val")
    images, labels = [table.images[row] for row in rows], np.array(table.labels)[rows]
    networks = [tune.load(trial["run_dir"]) for trial in answer["trials"]]
    states = [loaded.network.head.state_dict() for loaded in networks]

    def value(chosen: list[int]) -> float:
        mean = {name: torch.stack([states[c][name].double() for c in chosen]).mean(0).float() for name in states[0]}
        networks[0].network.head.load_state_dict(mean)
        return float((networks[0].predict(images).argmax(dim=1).numpy() == labels).mean())

    singles = [trial["metrics"]["val/accuracy"] for trial in answer["trials"]]
    states = [{name: tensor.clone() for name, tensor in state.items()} for state in states]
    order = sorted(range(3), key=lambda number: -singles[number])
    kept, best = order[:1], value(order[:1])
    for number in order[1:]:
        if value([*kept, number]) >= best:
            kept, best = [*kept, number], value([*kept, number])
    assert [place.rpartition("#")[2] for place in ensemble["kept"]] == [str(number + 1) for number in kept]
    assert ensemble["metrics"]["val/accuracy"] == pytest.approx(best)
    soup = tune.load(ensemble["run_dir"]).network.head.state_dict()
    for name, tensor in soup.items():
        expected = torch.stack([states[c][name].double() for c in kept]).mean(0).float()
        assert torch.allclose(tensor, expected, atol=1e-6)


@pytest.mark.slow
def test_each_split_and_each_way_to_combine_is_an_ensemble_of_its_own(go):
    words = ["data.split.seed=0,1", "seed=0,1", "ensemble=average,vote"]
    code, answer, said = go("run", "-m", *DRAWN, *words)
    assert code == 0, said
    assert [each["how"] for each in answer["ensembles"]] == ["average", "vote"] * 2
    rows = {each["how"]: [] for each in answer["ensembles"]}
    for each in answer["ensembles"]:
        assert len(each["members"]) == 2
        rows[each["how"]].append(tuple(_rows(each["run_dir"], "test")))
    assert rows["average"] == rows["vote"]
    assert len(set(rows["vote"])) == 2
    assert sum("±" in line for line in said.splitlines()) >= 2


def test_finished_runs_decide_together(go):
    _, answer, _ = go("run", "-m", *DRAWN, "seed=0,1")
    sweep = Path(answer["sweep_dir"]).name.removeprefix("sweep-")
    code, one, said = go("ensemble", sweep, "--combine", "vote")
    assert code == 0, said
    assert record(one["run_dir"])["ensemble"]["how"] == "vote"
    code, other, _ = go("ensemble", f"{sweep}#1", f"{sweep}#2")
    mean = np.mean([probs_of(trial["run_dir"]) for trial in answer["trials"]], axis=0)
    assert probs_of(other["run_dir"]) == pytest.approx(mean, abs=2e-6)
    code, _, said = go("ensemble", one["run_dir"], other["run_dir"])
    assert code == 2
    assert "is an ensemble itself" in said


def test_folds_are_a_sweep_with_one_line_in_the_table(go):
    code, answer, said = go("run", *DRAWN, "data.split.folds=3")
    assert code == 0, said
    assert len(answer["trials"]) == 3
    seen = [row for trial in answer["trials"] for row in _rows(trial["run_dir"], "val")]
    assert len(seen) == len(set(seen)) == 120
    assert any(line.split()[-1] == "1,2,3" and "±" in line for line in said.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", *DRAWN, "ensemble=average"], "average of one member"),
        (["run", *DRAWN, "ensemble=bagging", "ensemble.members=1"], "average of one member"),
        (["run", "-m", *DRAWN, "head=linear", "ensemble=stacking"], "stack of one member"),
        (["run", *DRAWN, "ensemble=boosting", "freeze=full"], "freeze=deep"),
        (["run", *DRAWN, "ensemble.members=3"], "nothing that combines them"),
        (["run", *DRAWN, "ensemble=seeds", "ensemble.vary=weights"], "belongs to ensemble.combine=boost"),
        (["run", "-m", *DRAWN, "ensemble=seeds", "seed=0,1"], "sweep over data.split.seed"),
        (["run", *DRAWN, "ensemble=bagging", "ensemble.membres=3"], "Did you mean ensemble.members"),
        (["run", *DRAWN, "data.split.fold=1"], "has no effect without data.split.folds"),
        (["ensemble", "nowhere", "here"], "no such run"),
        (["ensemble", "nowhere", "here", "--combine", "stak"], "not 'stak'. Did you mean stack?"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(go, words, said):
    code, _, text = go(*words)
    assert code == 2, text
    assert said in text


def test_runs_of_different_splits_or_networks_do_not_go_together(go):
    _, answer, _ = go("run", "-m", *DRAWN, "data.split.seed=0,1")
    runs = [trial["run_dir"] for trial in answer["trials"]]
    code, _, said = go("ensemble", *runs, "--combine", "stack")
    assert code == 2
    assert "has another split than" in said
    code, _, said = go("ensemble", runs[0])
    assert code == 2
    assert "two finished runs or more, not 1" in said
    _, alone, _ = go("run", *DRAWN, "head=mlp")
    code, _, said = go("ensemble", runs[0], alone["run_dir"], "--combine", "soup")
    assert code == 2
    assert "is another network than" in said
    assert not list(Path("outputs/ensemble").glob("*"))
