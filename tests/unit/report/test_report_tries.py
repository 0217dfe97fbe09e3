from __future__ import annotations

import functools

import pytest

from tune.config.check import check
from tune.config.compose import ConfigTree, compose
from tune.report.commands import with_words
from tune.report.diagnosis import usual_rate
from tune.report.story import Predicted, Story
from tune.report.tries import tries
from tune.report.words import Words

TREE = ConfigTree()
CHANGES = [getattr(Words, name) for name in vars(Words) if not name.startswith("_")]
CHANGES = [
    change for change in CHANGES if callable(change) and change not in (Words.value, Words.node, Words.is_shipped)
]
CONFIGS = [
    ["+experiment=quickstart", "regularize=standard", "augment=mild", "optimizer=sgd", "data.split.val=0.25"],
    ["+experiment=quickstart", "optimizer=lbfgs", "batch_size=2000", "lr=1", "ensemble=bagging"],
    ["+experiment=quickstart", "head=sklearn"],
    ["+experiment=quickstart", "head=mlp", "loss=triplet", "scheduler=plateau", "regularize.ema=0.9"],
    ["+experiment=quickstart", "optimizer=momentum", "optimizer.momentum=0.8", "scheduler=step", "regularize.swa=3"],
    ["+experiment=quickstart", "freeze=auto", "loss=focal", "loss.gamma=1", "cache=require"],
    ["+experiment=elpv/finetune"],
    ["+experiment=elpv/distill"],
    ["+experiment=elpv/chain", "data.types=mono", "stages=[]"],
    ["+experiment=domains/digits_to_mnist"],
    ["+experiment=classic/vanishing"],
    ["+experiment=sweep/lr_batch", "lr=1e-4", "batch_size=16", "augment=randaugment"],
    ["data=synthetic", "freeze=mid", "freeze.cut=4", "trainer.gradient_clip_val=0.5", "lr=1e-7", "init=he"],
]


@functools.cache
def composed_of(*words):
    return compose(TREE, list(words))


def story_of(words, how="stratified by label"):
    """A run with these words, as far as what can be tried looks at it."""
    composed = composed_of(*words)
    problems = [problem for problem in check(composed, TREE) if "sweep" not in problem.key]
    assert problems == []
    pretrained = composed.cfg["backbone"]["_target_"].endswith(("TimmBackbone", "Pair"))
    record = {
        "status": "done",
        "choices": composed.choices,
        "weights": {"digest": "ab" if pretrained else ""},
        "data": {"how": how},
        "counts": {"train": 1000, "val": 200},
        "prevalence": {"train": [500, 500], "val": [100, 100]},
        "classes": ["a", "b"],
    }
    epochs = composed.cfg["epochs"]
    rows = [{"epoch": i + 1, "lr": 1e-3, "train/loss": 0.5, "val/loss": 0.5} for i in range(epochs)]
    return Story(record, composed.cfg, rows, Predicted())


@pytest.mark.parametrize("words", CONFIGS, ids=" ".join)
def test_every_try_composes_with_the_words_of_the_run_and_changes_its_config(words):
    story = story_of(words)
    can = Words(story, usual_rate(story))
    found = [each for change in CHANGES if (each := change(can)) is not None]
    assert found
    if story.is_fitted:
        found = [each for topic in ("few rows", "healthy", "label noise suspected") for each in tries(topic, can)]
    for together in packed(found):
        again = compose(TREE, with_words(words, together)[2:])
        assert check(again, TREE) == [], together
        for word in together:
            key = word.partition("=")[0]
            assert value_at(again.cfg, key) != value_at(story.config, key), word


def packed(found):
    """The words of many tries in as few commands as have none of a key twice: a compose takes 0.1 s."""
    commands = []
    for each in found:
        keys = {word.partition("=")[0] for word in each.words}
        room = next((one for one in commands if not keys & {word.partition("=")[0] for word in one}), None)
        if room is None:
            commands.append(list(each.words))
        else:
            room += each.words
    return commands


def value_at(cfg, key):
    for part in key.split("."):
        cfg = cfg.get(part) if isinstance(cfg, dict) else None
    return cfg


def words_for(topic, *words, how="stratified by label"):
    story = story_of(words, how)
    return [" ".join(each.words) for each in tries(topic, Words(story, usual_rate(story)))]


def test_what_the_run_has_already_is_not_suggested_again():
    lenet = ("data=digits", "backbone=lenet", "freeze=full")
    assert words_for("overfitting", *lenet) == [
        "augment=affine",
        "regularize.dropout=0.3",
        "regularize.weight_decay=0.1",
    ]
    on = ("augment=affine", "augment.mixup=0.2", "regularize.dropout=0.5", "regularize.weight_decay=0.3")
    assert words_for("overfitting", *lenet, *on) == ["regularize.early_stopping=3"]
    assert "regularize.dropout=0.5" in words_for("overfitting", *lenet, "regularize.dropout=0.2")


def test_a_smaller_network_comes_last():
    found = words_for("overfitting", "data=synthetic", "backbone=convnet", "backbone.width=32", "freeze=full", *FULL)
    assert found == ["regularize.early_stopping=3", "backbone.width=16"]


FULL = ("augment=mild", "augment.mixup=0.2", "regularize.dropout=0.5", "regularize.weight_decay=1")


def test_rates_go_to_the_usual_one_where_that_is_farther():
    assert words_for("rate too low", "data=synthetic", "lr=1e-7")[:2] == ["lr=auto", "lr=0.001"]
    assert words_for("rate too low", "data=synthetic", "lr=3e-4")[:2] == ["lr=auto", "lr=0.003"]
    assert "lr=auto" not in words_for("rate too low", "data=synthetic", "optimizer=lbfgs", "batch_size=1000")
    assert words_for("diverged", "data=synthetic", "lr=1e30")[0] == "lr=0.001"
    assert words_for("diverged", "data=synthetic", "lr=1e-3")[0] == "lr=0.0001"
    assert words_for("diverged", "data=synthetic", "lr=1e30")[1:] == [
        "lr=auto",
        "trainer.gradient_clip_val=1.0 lr=0.001",
    ]


def test_a_head_alone_is_not_augmented_first_and_mirrors_are_not_for_digits():
    assert words_for("overfitting", "data=synthetic")[-1] == "augment=mild"
    assert words_for("overfitting", "data=synthetic", "freeze=full")[0] == "augment=mild"
    assert words_for("overfitting", "data=mnist5k", "freeze=full")[0] == "augment=affine"
    two = ("data=domains", "data@data.source=digits", "data@data.target=digits")
    assert words_for("overfitting", *two, "freeze=full")[0] == "augment=affine"


def test_a_deeper_freeze_for_what_is_not_learned_and_everything_where_nothing_is_pretrained():
    assert "freeze=mid" in words_for("underfitting", "data=synthetic")
    assert "freeze=full" in words_for("underfitting", "data=synthetic", "freeze=mid")
    assert "freeze=full" in words_for("underfitting", "data=synthetic", "backbone=lenet")
    assert not any("freeze" in word for word in words_for("underfitting", "data=synthetic", "freeze.norm=train"))


def test_validation_rows_that_the_data_name_are_not_cut_anew():
    assert words_for("few rows", "data=synthetic") == [
        "objective=val/loss",
        "data.split.folds=5",
        "data.split.val=0.3",
    ]
    assert words_for("few rows", "data=synthetic", how="val and test given") == ["objective=val/loss"]
    assert words_for("few rows", "data=synthetic", "data.split.val=0.4") == ["objective=val/loss"]


def test_the_command_has_the_new_word_in_the_place_of_the_old():
    typed = ["+experiment=quickstart", "lr=1e-3", "data/target=digits"]
    assert with_words(typed, ["lr=0.1", "epochs=20"])[2:] == [
        "+experiment=quickstart",
        "lr=0.1",
        "data/target=digits",
        "epochs=20",
    ]
