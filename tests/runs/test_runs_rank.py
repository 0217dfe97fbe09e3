"""tune rank: its table, one pass for each backbone, and that what it says can be had again by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from scipy import stats

import tune.features.cache as caches
from tune.cli.main import main
from tune.features import transferability as scores
from tune.models.backbones.timm_model import TimmBackbone
from tune.models.classifier import source_classifier
from tune.models.weights import PACKAGES, read_state
from tune.train.choose.rank import kendall, pearson

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

TINY = ["data=synthetic", "data.rows=90", "backbone.input_size=32", "trainer=cpu", "epochs=2", "lr=1e-2"]
LITE = "tf_efficientnet_lite0"


def run(capsys, *words: str, code: int = 0) -> tuple[dict, list[str], str]:
    """The JSON answer, the lines before it, and what was said beside."""
    got = main([*words, "--json"])
    said = capsys.readouterr()
    assert got == code, said.err
    *lines, answer = said.out.splitlines()
    return json.loads(answer), lines, said.err


def kept_rows() -> dict[str, int]:
    """Rows in the cache, by what they are of."""
    found = {}
    for entry in caches.FeatureCache(caches.default_folder(), 1).entries():
        rows = {item for path in entry.folder.glob("*.rows") for item in entry.shelf()._read(path)[0]}
        found[entry.parts["about"]] = len(rows)
    return found


@pytest.fixture
def four(capsys):
    listed = "efficientnet_lite0,efficientnet_lite1,lenet,convnet"
    return run(capsys, "rank", *TINY, "--backbones", listed, "--layers", "--check")


def test_a_table_of_four_backbones_sorted_by_log_me_and_checked_against_training(four):
    answer, lines, _ = four
    found = answer["scores"]
    assert {score["backbone"] for score in found} == {"efficientnet_lite0", "efficientnet_lite1", "lenet", "convnet"}
    assert [score["log_me"] for score in found] == sorted((score["log_me"] for score in found), reverse=True)
    assert lines[0].split() == ["backbone", "layer", "D", "LogME", "H-score", "LEEP", "kNN", "probe", "ms/image"]
    assert len([line for line in lines if "efficientnet_lite0" in line and "trained" not in line]) == 5
    assert any(line.startswith("sorted by LogME") for line in lines)
    outputs = {score["backbone"]: score for score in found if score["layer"] == "output"}
    assert outputs["efficientnet_lite0"]["dim"] == 1280
    assert outputs["lenet"]["dim"] == 84
    assert outputs["lenet"]["leep"] is None
    assert outputs["efficientnet_lite0"]["leep"] < 0
    assert any("LEEP is blank for lenet" in note for note in answer["notes"])
    assert all(score["ms"] > 0 for score in found)
    real = {each["backbone"]: each["accuracy"] for each in answer["check"]["runs"]}
    for each in answer["check"]["runs"]:
        record = json.loads((Path(each["run_dir"]) / "run.json").read_text())
        assert record["metrics"]["val/accuracy"] == each["accuracy"]
        assert record["choices"]["freeze"] == "deep"
    for name in ("log_me", "h_score", "knn", "probe"):
        pairs = [(outputs[backbone][name], accuracy) for backbone, accuracy in real.items()]
        one, other = zip(*pairs, strict=True)
        measured = answer["check"]["correlation"][name]
        assert measured["kendall"] == pytest.approx(stats.kendalltau(one, other).statistic)
        assert measured["pearson"] == pytest.approx(stats.pearsonr(one, other).statistic)
        assert measured["n"] == 4


def test_one_pass_gives_all_layers_sees_no_test_row_and_is_not_repeated(capsys):
    words = ["rank", *TINY, "--backbones", "efficientnet_lite0", "--layers"]
    answer, _, _ = run(capsys, *words)
    (kept,) = kept_rows().values()
    assert kept == answer["train_rows"] + answer["val_rows"] == 72
    files = {path: path.stat().st_mtime_ns for path in caches.default_folder().rglob("*.rows")}
    again, _, _ = run(capsys, *words)
    assert files == {path: path.stat().st_mtime_ns for path in caches.default_folder().rglob("*.rows")}
    for one, other in zip(answer["scores"], again["scores"], strict=True):
        assert {**one, "ms": 0} == {**other, "ms": 0}


def test_without_layers_it_shares_the_cache_of_a_deep_run(capsys):
    run(capsys, "run", *TINY, "freeze=deep")
    before = kept_rows()
    run(capsys, "rank", *TINY, "--backbones", "efficientnet_lite0")
    assert kept_rows() == before


def test_leep_asks_the_classifier_that_the_weights_came_with():
    _, module, file_class = PACKAGES[LITE]
    path = getattr(__import__(module), file_class).get_model_file_path()
    whole = timm.create_model(LITE, num_classes=1000).eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), read_state(Path(path)).values(), strict=True)))
    backbone = TimmBackbone(LITE, weights="package").eval()
    node = {"_target_": "tune.models.backbones.timm_model.TimmBackbone", "name": LITE, "weights": "package"}
    weight, bias = source_classifier(node, 1280)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images) @ weight.T + bias, whole(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"weights": "none"}, "random"),
        ({"readout": "max"}, "readout=max"),
        ({"_target_": "tune.models.backbones.lenet.LeNet"}, "no classifier"),
    ],
)
def test_where_there_is_no_classifier_the_reason_is_told(changed, why):
    node = {"_target_": "tune.models.backbones.timm_model.TimmBackbone", "name": LITE, "weights": "package"}
    assert why in source_classifier({**node, **changed}, 1280)


def test_the_scores_are_those_of_the_plain_network(capsys):
    words = [*TINY, "precision=32-true"]
    answer, _, _ = run(capsys, "rank", *words, "--backbones", "efficientnet_lite0")
    (score,) = answer["scores"]
    from tune.config.compose import ConfigTree, compose
    from tune.train.prepare import prepare

    prepared = prepare(compose(ConfigTree(), words).cfg)
    backbone, labels, parts = prepared.network.backbone.eval(), prepared.table.labels, prepared.parts
    with torch.no_grad():
        images = torch.stack([prepared.data.load("", row) for row in range(90)])
        rows = backbone(images).double().numpy()
    train, val = rows[parts.train], rows[parts.val]
    assert score["log_me"] == pytest.approx(scores.log_me(train, labels[parts.train]), abs=1e-3)
    assert score["h_score"] == pytest.approx(scores.h_score(train, labels[parts.train]), abs=1e-3)
    told = scores.probe(train, labels[parts.train], val)
    assert score["probe"] == pytest.approx(scores.accuracy(told, labels[parts.val]), abs=0.06)


def test_finished_runs_are_ranked_by_what_they_learned(capsys):
    tiny = [*TINY[:2], "trainer=cpu", "backbone=lenet"]
    good, _, _ = run(capsys, "run", *tiny, "freeze=full", "epochs=15", "lr=3e-3", "data.rows=300")
    poor, _, _ = run(capsys, "run", *tiny, "freeze=full", "epochs=1", "lr=1e-6")
    answer, _, _ = run(capsys, "rank", "data=synthetic", "data.seed=5", "data.rows=150", "trainer=cpu", "--runs")
    best, worst = answer["scores"]
    assert best["backbone"] == f"run {good['run_dir'].rpartition('-')[2]}"
    assert worst["backbone"] == f"run {poor['run_dir'].rpartition('-')[2]}"
    assert best["leep"] > worst["leep"]
    assert best["probe"] > worst["probe"]
    named, _, _ = run(capsys, "rank", "data=synthetic", "trainer=cpu", "--runs", poor["run_dir"].rpartition("-")[2])
    assert [score["backbone"] for score in named["scores"]] == [worst["backbone"]]


def test_a_backbone_that_cannot_be_had_is_told_and_the_others_are_ranked(capsys):
    words = ["rank", *TINY, "--backbones", "lenet,efficientnet_lite0:weights=nowhere.pt"]
    answer, lines, _ = run(capsys, *words, code=3)
    assert {score["backbone"] for score in answer["scores"]} == {"lenet"}
    assert any("nowhere.pt" in line and "was not ranked" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--backbones", "efficientnet_lite0,lenett"], "Did you mean lenet"),
        (["--backbones", "lenet,lenet"], "twice"),
        (["--backbones", "lenet,"], "empty"),
        (["--backbones", "lenet:wieghts=none"], "Did you mean backbone.weights"),
        (["--backbones", "lenet", "freeze=mid"], "compared frozen"),
        (["--backbones", "lenet", "a1b2"], "--runs"),
        (["--backbones", "lenet", "lr=1,2"], "several values"),
        (["--backbones", "lenet", "ensemble=seeds"], "a sweep or an ensemble"),
        (["--backbones", "lenet", "transfer=source_free"], "trains no head"),
        ([], "--backbones"),
        (["--runs"], "no finished run"),
        (["--runs", "a1b2"], "no such run"),
    ],
)
def test_bad_input_is_refused_before_anything_is_looked_at(capsys, tmp_path, words, text):
    answer, _, _ = run(capsys, "rank", *TINY[:2], *words, code=2)
    assert text in " ".join(problem["text"] for problem in answer["problems"])
    assert not (tmp_path / "outputs").exists()
    assert not (tmp_path / "cache").exists()


def test_one_backbone_is_enough_but_not_for_a_correlation(capsys):
    answer, lines, _ = run(capsys, "rank", *TINY[:2], "trainer=cpu", "epochs=1", "--backbones", "lenet", "--check")
    assert len(answer["scores"]) == 1
    assert "correlation" not in answer["check"]
    assert any("two backbones or more" in line for line in lines)


def test_correlations_are_those_of_scipy_ties_included():
    draw = np.random.default_rng(0)
    one, other = draw.integers(0, 4, 12), draw.integers(0, 4, 12)
    assert kendall(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)
    assert pearson(one, other) == pytest.approx(stats.pearsonr(one, other).statistic)
    assert np.isnan(kendall([1, 1], [1, 2]))
    assert np.isnan(pearson([1, 1], [1, 2]))
