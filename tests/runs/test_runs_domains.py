"""data=domains in whole runs: what each method gives, what stands beside it, that no label of the target is used."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import tune
from tune.cli.main import main
from tune.config.compose import ConfigTree, compose
from tune.train.experiment import Job, execute
from tune.train.interrupt import Interrupted

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

WORDS = [
    *("data=domains", "data@data.source=arrays", "data@data.target=arrays"),
    *("data.source.file=source.npz", "data.target.file=target.npz"),
    *("backbone=convnet", "backbone.depth=2", "backbone.width=8", "backbone.input_size=8", "backbone.norm=none"),
    *("backbone.readout=flatten", "freeze=full", "batch_size=20", "epochs=6", "lr=3e-3"),
]
METHODS = ["fine_tune", "statistics", "coral", "mmd", "dann", "reweight", "source_free"]


OWN = '''
from torch import nn
from tune.models.interface import Backbone, InputSpec


class Halves(Backbone):
    """Three features: how bright the left, the middle and the right are."""

    def __init__(self, input_size: int = 6) -> None:
        super().__init__()
        self.scale = nn.Parameter(__import__("torch").ones(3))
        self.feature_dim, self.layers = 3, {"scale": ["scale"]}
        self.input = InputSpec((input_size, input_size), (0.5,) * 3, (0.25,) * 3, "nearest")
        self.weights_source, self.weights_digest = "none", ""

    def forward(self, images):
        return images.mean(dim=(1, 2)).unflatten(1, (3, 2)).mean(dim=2) * self.scale
'''


HALVES = [*(word for word in WORDS if not word.startswith(("backbone", "freeze", "epochs", "lr"))), "backbone=halves"]


@pytest.fixture
def halves(elsewhere, monkeypatch):
    """The backbone of three means, as the user's own."""
    Path("halves.py").write_text(OWN)
    Path("conf/backbone").mkdir(parents=True)
    Path("conf/backbone/halves.yaml").write_text("# Three means.\n_target_: halves.Halves\n")
    monkeypatch.syspath_prepend(Path.cwd())


def written(name: str, rows: int, shift: int, seed: int, share: float = 0.5, garbage: bool = False) -> None:
    """Images with a bright left or right half; `shift` brightens all. 60 % train, 20 % validate, 20 % test."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(rows) < share).astype(int)
    images = draw.integers(0, 60, (rows, 8, 8))
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] += 60
    split = np.array(["train", "val", "train", "test", "train"])[np.arange(rows) % 5]
    if garbage:
        hidden = split != "test"
        labels[hidden] = draw.permutation(labels[hidden])
    images = np.clip(images + shift, 0, 255).astype(np.uint8)
    np.savez(name, images=images, labels=labels, split=split)


def both(shift: int = 120, share: float = 0.5, rows: int = 200) -> None:
    written("source.npz", rows, 0, 0)
    written("target.npz", rows, shift, 1, share)


def flipped() -> None:
    """The target's labels are the other way round, so that every row of the source contradicts it."""
    both(shift=0)
    target = dict(np.load("target.npz"))
    np.savez("target.npz", **(target | {"labels": 1 - target["labels"]}))


def objective_of(method: str) -> str:
    return "objective=val/infomax" if method == "source_free" else "objective=val/loss"


def run(capsys, *words: str, start: list[str] = WORDS) -> tuple[Path, dict, str]:
    code = main(["run", *start, *words, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    run_dir = Path(json.loads(said.out.splitlines()[-1])["run_dir"])
    return run_dir, json.loads((run_dir / "run.json").read_text()), said.err


def table_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def refused(capsys, *words: str) -> str:
    assert main(["run", *WORDS, *words]) == 2
    assert not list(Path().glob("outputs/*/2*"))
    return capsys.readouterr().err


def test_rows_of_the_target_are_not_chosen_by_their_labels(capsys):
    both(share=0.2)
    _, record, _ = run(capsys, "transfer=fine_tune", "guard=false", "epochs=1", "data.split.per_class=10")
    assert (
        sum(record["prevalence"]["train"]) == 20 + 120
    )  # 10 of each class of the source, all that train of the target
    shutil.rmtree("outputs")
    said = refused(capsys, "transfer=coral", "data.target.split.per_class=5")
    assert "data.target.split.per_class" in said
    assert "by their labels" in said


@pytest.mark.parametrize("method", METHODS)
def test_no_label_of_the_target_reaches_what_is_learned(capsys, method):
    """Weights and epoch are the same to the bit when all labels of training and validation rows are shuffled."""
    both()
    words = [f"transfer={method}", objective_of(method), "guard=false", "epochs=2"]
    first, record, _ = run(capsys, *words)
    written("target.npz", 200, 120, 1, garbage=True)
    second, other, _ = run(capsys, *words)
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == two.keys()
    assert all(bool((one[name] == two[name]).all()) for name in one)
    assert record["best_epoch"] == other["best_epoch"]
    assert record["metrics"] == other["metrics"]  # the test rows kept their labels


def test_metrics_are_of_the_target_and_of_the_source(capsys):
    both()
    run_dir, record, said = run(capsys, "transfer=fine_tune", "guard=false")
    rows = {part: table_of(run_dir / f"predictions/{part}.csv") for part in ("test", "test_source")}
    for part, name in (("test", "target"), ("test_source", "source")):
        assert len(rows[part]) == 40
        assert all(row["path"].startswith(f"{name}/") for row in rows[part])
        right = np.mean([row["label"] == row["predicted"] for row in rows[part]])
        assert record["metrics"][f"{part}/accuracy"] == pytest.approx(right)
    assert record["metrics"]["test_source/accuracy"] > 0.9
    assert record["metrics"]["test/accuracy"] < 0.8
    assert {"val/infomax", "val/accuracy"} <= record["metrics"].keys()
    assert "no label of the target is known" in said
    assert {row["path"].split("/")[0] for row in table_of(run_dir / "predictions/val.csv")} == {"source"}


def test_source_free_recovers_what_a_planted_shift_cost_and_the_guard_says_so(capsys):
    both()
    _, record, said = run(capsys, "transfer=source_free", "objective=val/infomax", "epochs=8")
    guard = record["guard"]
    gain = guard["differences"]["source only"]["accuracy"]
    assert (guard["helped"], guard["hurt"]) == (True, False)
    assert gain["low"] > 0.1
    assert record["metrics"]["test/accuracy"] == pytest.approx(gain["value"] + gain["difference"])
    assert guard["differences"].keys() == {"source only", "statistics", "ceiling"}
    assert "source only" in said
    assert "it hurt" not in said


@pytest.mark.usefixtures("halves")
def test_statistics_undo_a_shift_of_the_features(capsys):
    both(shift=0)
    target = dict(np.load("target.npz"))
    target["images"][:, :, 5:] += 100  # whatever the class, the right is bright
    np.savez("target.npz", **target)
    words = ["freeze=deep", "epochs=8", "lr=3e-2", "transfer=statistics", "--allow", "halves"]
    run_dir, record, _ = run(capsys, *words, start=HALVES)
    assert record["metrics"]["test_source/accuracy"] > 0.95
    assert record["metrics"]["test_unaligned/accuracy"] < 0.7
    assert record["metrics"]["test/accuracy"] > 0.95
    assert record["guard"]["helped"]
    loaded = tune.load(run_dir, allow=["halves"])
    target = np.load("target.npz")
    rows = target["split"] == "test"
    said = loaded.classify(list(target["images"][rows]))
    assert np.mean(np.array(said) == target["labels"][rows].astype(str)) == record["metrics"]["test/accuracy"]


@pytest.mark.parametrize("method", ["dann", "reweight", "source_free"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(method):
    both()
    words = [f"transfer={method}", objective_of(method), "epochs=4", "guard=false", "scheduler=constant"]
    config = compose(ConfigTree(), [*WORDS, *words]).cfg

    def stop(line: str) -> None:
        if line.startswith("epoch 3/"):
            raise Interrupted(signal.SIGTERM)

    whole = execute(Job(config), lambda line: None)
    stopped = execute(Job(config), stop)
    assert (whole.status, stopped.status) == ("done", "interrupted")
    resumed = execute(Job(config, run_dir=str(stopped.run_dir), resume=True), lambda line: None)
    one, two = (load_file(each.run_dir / "model.safetensors") for each in (whole, resumed))
    assert all(bool((one[name] == two[name]).all()) for name in one)
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("method", ["fine_tune", "statistics", "source_free"])
def test_a_finished_run_is_measured_again_and_attacked_on_the_target(capsys, method):
    both()
    words = [f"transfer={method}", objective_of(method), "epochs=2", "guard=false"]
    run_dir, record, _ = run(capsys, *words, "evaluate={attack: fgsm, eps: [8]}")
    assert "test/attack_success@8" in record["metrics"]
    assert record["attack"]["rows"] == 40
    assert main(["evaluate", str(run_dir), "--json"]) == 0
    said = capsys.readouterr()
    again = json.loads(said.out.splitlines()[-1])["metrics"]
    assert again["test/accuracy"] == pytest.approx(record["metrics"]["test/accuracy"])
    assert "as run.json has it" in said.err


def test_what_stands_beside_a_run_is_found_again(capsys):
    both()
    run(capsys, "transfer=coral", "epochs=2")
    beside = sorted(Path().glob("outputs/*/beside-*/run.json"))
    assert len(beside) == 2
    times = [path.stat().st_mtime_ns for path in beside]
    run(capsys, "transfer=mmd", "epochs=2")
    again = sorted(Path().glob("outputs/*/beside-*/run.json"))
    assert again == beside
    assert [path.stat().st_mtime_ns for path in again] == times
    run(capsys, "transfer=mmd", "epochs=2", "seed=1")
    assert len(list(Path().glob("outputs/*/beside-*/run.json"))) == 4


def test_the_ceiling_is_a_run_on_the_target_alone_with_the_same_test_rows(capsys):
    both()
    _, record, _ = run(capsys, "transfer=fine_tune", "epochs=2")
    ceiling = Path(record["guard"]["beside"]["ceiling"])
    names = [row["path"] for row in table_of(ceiling)]
    data = WORDS[:5]
    words = ["data=arrays", "data.file=target.npz", *(word for word in WORDS if word not in data), "epochs=2", "--json"]
    assert main(["run", *words]) == 0
    alone = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["run_dir"])
    assert names == [row["path"] for row in table_of(alone / "predictions/test.csv")]
    assert json.loads((alone / "run.json").read_text())["metrics"]["test/accuracy"] == pytest.approx(
        record["guard"]["differences"]["ceiling"]["accuracy"]["value"]
    )


def test_alignment_that_hurts_under_a_label_shift_is_reported(capsys):
    """Nothing but the mix of classes differs, so the source alone is as good as can be and alignment destroys it."""
    both(shift=0, share=0.05, rows=400)
    _, record, said = run(capsys, "transfer=mmd", "transfer.strength=300", "epochs=8")
    guard = record["guard"]
    assert guard["label_shift"]["distance"] > 0.3
    assert guard["differences"]["source only"]["accuracy"]["high"] < 0
    assert (guard["helped"], guard["hurt"]) == (False, True)
    assert "the classes seem to be mixed otherwise in the target" in said
    assert "the source alone is better" in said


def test_source_free_opens_nothing_of_its_source(capsys):
    both()
    first, _, _ = run(capsys, "transfer=fine_tune", "guard=false")
    Path("source.npz").unlink()
    words = [f"backbone.weights=run:{first}", "transfer=source_free", "objective=val/infomax"]
    run_dir, record, said = run(capsys, *words, "epochs=8")
    assert record["guard"]["differences"].keys() == {"source only", "ceiling"}
    assert record["guard"]["differences"]["source only"]["accuracy"]["low"] > 0
    before, after = load_file(first / "model.safetensors"), load_file(run_dir / "model.safetensors")
    moved = {name for name in before if not bool((before[name] == after[name]).all())}
    assert not {name for name in moved if name.startswith("head.")}
    assert {name for name in moved if name.startswith("backbone.")}
    assert "source 1" not in said.split("data  ")[1].splitlines()[0]
    for words in (["--calibrate"], ["--calibrate", "--tta"], ["--threshold", "f1"]):
        assert main(["evaluate", str(run_dir), *words]) == 2
        assert "has no validation row with a label to fit anything on" in capsys.readouterr().err
    assert main(["evaluate", str(run_dir), "--tta"]) == 0
    assert main(["export", str(run_dir), "--format", "card"]) == 0
    assert main(["report", str(run_dir)]) == 0


def test_source_free_takes_a_folder_without_labels(capsys):
    from PIL import Image

    both()
    first, _, _ = run(capsys, "transfer=fine_tune", "guard=false")
    Path("photos/deep").mkdir(parents=True)
    for number, image in enumerate(np.load("target.npz")["images"]):
        Image.fromarray(image).save(f"photos/{'deep/' * (number % 2)}{number}.png")
    words = [word for word in WORDS if not word.startswith("data")]
    words += ["data=unlabelled", "data.root=photos", f"backbone.weights=run:{first}", "transfer=source_free"]
    assert main(["run", *words, "objective=val/infomax", "--json"]) == 0
    said = capsys.readouterr()
    record = json.loads(Path(json.loads(said.out.splitlines()[-1])["run_dir"], "run.json").read_text())
    assert record["metrics"].keys() == {"val/infomax"}
    assert main(["run", "data=unlabelled", "data.root=photos"]) == 2
    assert "its rows have no labels" in capsys.readouterr().err


def test_a_target_without_labels_is_adapted_to_and_not_tested_on(capsys):
    from PIL import Image

    both()
    Path("photos").mkdir()
    for number, image in enumerate(np.load("target.npz")["images"][:60]):
        Image.fromarray(image).save(f"photos/{number}.png")
    words = [word for word in WORDS if "target" not in word]
    words += ["data@data.target=unlabelled", "data.target.root=photos", "transfer=coral", "epochs=2", "--json"]
    assert main(["run", *words]) == 0
    said = capsys.readouterr()
    record = json.loads(Path(json.loads(said.out.splitlines()[-1])["run_dir"], "run.json").read_text())
    assert "test/accuracy" not in record["metrics"]
    assert "test_source/accuracy" in record["metrics"]
    assert "n = 40" in said.out
    assert "beside" not in record["guard"]


def test_a_few_labels_of_the_target_outweigh_a_source_that_contradicts_them(capsys):
    flipped()
    words = ["guard=false", "epochs=12", "data.labelled=10", "objective=val/infomax"]
    _, record, said = run(capsys, "transfer=tradaboost", *words)
    assert "20 labels of the target are known" in said
    assert "20 rows of the target carry" in said
    _, alone, _ = run(capsys, "transfer=fine_tune", *words)
    assert alone["metrics"]["test/accuracy"] < 0.4
    assert record["metrics"]["test/accuracy"] > 0.9


def shifted(name: str, rows: int, in_b: float, seed: int) -> None:
    """Rows of two regions, told by the right third: in A the left decides the class, in B the middle does."""
    draw = np.random.default_rng(seed)
    left, middle, region = draw.random(rows), draw.random(rows), draw.random(rows) < in_b
    labels = np.where(region, middle > 0.5, left > 0.5).astype(int)
    columns = np.stack([left, left, middle, middle, region, region], axis=1) * 255
    split = np.array(["train", "val", "train", "test", "train"])[np.arange(rows) % 5]
    np.savez(name, images=np.repeat(columns[:, None], 6, axis=1).astype(np.uint8), labels=labels, split=split)


@pytest.mark.usefixtures("halves")
@pytest.mark.parametrize("by", [pytest.param("classifier", marks=pytest.mark.slow), "means"])
def test_reweighting_recovers_what_a_covariate_shift_cost(capsys, by):
    """The same rule in both domains, one that no linear head can express: which half it should fit, the weights say."""
    shifted("source.npz", 1500, 0.1, 0)
    shifted("target.npz", 1500, 0.9, 1)
    words = ["freeze=deep", "epochs=20", "lr=3e-2", "batch_size=60", "objective=val/loss", "--allow", "halves"]
    words += ["transfer=reweight", f"transfer.by={by}", "transfer.clip=100"]
    _, record, said = run(capsys, *words, start=HALVES)
    differences = record["guard"]["differences"]
    ceiling, without = (differences[name]["accuracy"]["value"] for name in ("ceiling", "source only"))
    assert ceiling - without > 0.3
    assert record["metrics"]["test/accuracy"] - without > 0.7 * (ceiling - without)
    assert "effective sample size" in said


@pytest.mark.usefixtures("halves")
def test_reweighting_changes_nothing_where_nothing_shifted(capsys):
    shifted("source.npz", 1500, 0.5, 0)
    shifted("target.npz", 1500, 0.5, 1)
    words = ["freeze=deep", "epochs=4", "lr=3e-2", "objective=val/loss", "guard=false", "--allow", "halves"]
    _, record, said = run(capsys, *words, "transfer=reweight", start=HALVES)
    _, plain, _ = run(capsys, *words, "transfer=fine_tune", start=HALVES)
    low, high = re.search(r"weights ([0-9.]+) to ([0-9.]+)", said).groups()
    assert float(low) > 0.8
    assert float(high) < 1.25
    assert record["metrics"]["test/accuracy"] == pytest.approx(plain["metrics"]["test/accuracy"], abs=0.02)


def test_domains_of_other_classes_are_refused_with_both_lists(capsys):
    both()
    data = dict(np.load("target.npz"))
    np.savez("target.npz", **(data | {"labels": data["labels"] + 5}))
    said = refused(capsys, "transfer=coral")
    assert "data.target" in said
    assert "0, 1" in said
    assert "5, 6" in said


def test_classes_in_another_order_are_the_same_classes(capsys):
    both(shift=0)
    _, turned, _ = run(capsys, "transfer=fine_tune", "data.target.classes=['1','0']", "epochs=2")
    _, plain, _ = run(capsys, "transfer=fine_tune", "epochs=2")
    assert turned["metrics"] == plain["metrics"]
    assert "trouble" not in turned["guard"]
    ceilings = [each["guard"]["differences"]["ceiling"]["accuracy"]["value"] for each in (plain, turned)]
    assert min(ceilings) > 0.9


def test_a_failure_beside_a_run_does_not_lose_its_result(capsys):
    """The ceiling is refused: triplets of the target alone would need two training rows of each class."""
    both()
    target = dict(np.load("target.npz"))
    ones = np.flatnonzero((target["labels"] == 1) & (target["split"] == "train"))
    target["split"][ones[1:]] = "val"
    np.savez("target.npz", **target)
    _, record, said = run(capsys, "transfer=statistics", "epochs=1", "loss=triplet", "loss.rows_per_class=5")
    assert record["status"] == "done"
    assert "test/accuracy" in record["metrics"]
    assert "one training row" in record["guard"]["trouble"]
    assert "nothing stands beside this run" in said


def test_the_source_alone_knows_no_label_of_the_target(capsys):
    flipped()
    _, record, _ = run(capsys, "transfer=tradaboost", "epochs=12", "data.labelled=10", "objective=val/infomax")
    assert record["guard"]["differences"]["source only"]["accuracy"]["value"] < 0.4
    assert record["metrics"]["test/accuracy"] > 0.9
    assert record["guard"]["helped"]


def test_a_dry_run_looks_at_both_domains(capsys):
    both()
    for words in (["transfer=coral"], ["transfer=fine_tune"]):
        assert main(["run", *WORDS, *words, "--dry-run"]) == 0
        assert "nothing was started" in capsys.readouterr().err


def test_before_the_source_is_learned_both_runs_are_looked_at(capsys):
    both()
    words = [*WORDS, "transfer=source_free", "objective=val/infomax", "epochs=1", "guard=false"]
    assert main(["run", *words, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if line.startswith(("source ", "target "))] == [
        "source    is learned first, then closed",
        "target    from what that run leaves",
    ]
    assert re.findall("train / 40 val / 40 test", said) == 3 * ["train / 40 val / 40 test"]  # both, then the target
    assert not Path("outputs").exists()
    assert main(["doctor", *words, "--only", "start,rate"]) == 0
    assert "the source is learned first" in capsys.readouterr().err
    run(capsys, *words, start=[])
    assert main(["run", *words, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "is learned first" not in said
    assert "weights from run" in said


def test_a_loss_between_rows_measures_retrieval_in_both_domains(capsys):
    both()
    words = ["transfer=coral", "loss=triplet", "head=mlp", "batch_size=20", "loss.rows_per_class=5"]
    _, record, _ = run(capsys, *words, "epochs=1", "guard=false")
    assert {"val/recall_at_1", "test/recall_at_1", "test_source/recall_at_1"} <= record["metrics"].keys()


def test_predictions_of_source_free_are_of_its_best_epoch(capsys):
    both()
    run_dir, record, _ = run(capsys, "transfer=source_free", "objective=val/infomax", "guard=false", "epochs=5")
    rows = table_of(run_dir / "predictions/val.csv")
    p = np.array([[float(row["p_0"]), float(row["p_1"])] for row in rows])
    assert {row["label"] for row in rows} == {""}
    entropy = -(p * np.log(p.clip(1e-12))).sum(axis=1).mean() + 0
    mean = p.mean(axis=0)
    assert -(mean * np.log(mean)).sum() - entropy == pytest.approx(record["metrics"]["val/infomax"], abs=1e-4)


def test_source_free_starts_from_a_run_with_statistics(capsys):
    both()
    first, _, _ = run(capsys, "transfer=statistics", "guard=false", "epochs=2")
    words = [f"backbone.weights=run:{first}", "transfer=source_free", "objective=val/infomax", "epochs=2"]
    _, record, _ = run(capsys, *words)
    assert "trouble" not in record["guard"]
    assert record["guard"]["differences"].keys() == {"source only", "ceiling"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["transfer=dann", "freeze=deep"], "nothing in front of it trains"),
        (["transfer=source_free"], "val/infomax"),
        (["transfer=source_free", "objective=val/infomax", "freeze=deep"], "Take freeze=full"),
        (["transfer=tradaboost"], "data.labelled"),
        (["transfer=reweight"], "objective=val/loss"),
        (["transfer=coral", "data.labelled=500"], "500 rows of each class"),
        (["transfer=coral", "data.target.split.tset=0.3"], "data.target.split.tset"),
        (["transfer=coral", "data.target.workers=2"], "data.target.workers"),
        (["transfer=coral", "data.target.file=none.npz"], "none.npz"),
        (["transfer=coral", "data.source=null"], "data.source"),
        (["transfer=source_free", "objective=val/infomax", "scheduler=plateau"], "plateau"),
        (["transfer=coral", "head=sklearn"], "with data=domains it trains"),
        (["transfer=coral", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"], "trainer.devices=1"),
    ],
)
def test_bad_input_is_refused_by_its_key(capsys, words, named):
    both()
    if "objective=val/infomax" in words:
        run(capsys, "transfer=statistics", "guard=false", "epochs=1", "name=elsewhere")
        shutil.rmtree("outputs")
    assert named in refused(capsys, *words)


def test_an_empty_target_is_refused(capsys):
    both()
    np.savez("target.npz", images=np.zeros((0, 8, 8), np.uint8), labels=np.zeros(0, int))
    assert "target" in refused(capsys, "transfer=coral")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["transfer=coral"], "data=domains"),
        (["objective=val/infomax"], "data=domains"),
        (["guard=false"], "guard"),
        (["transfer=source_free", "objective=val/infomax"], "backbone.weights=run:ID"),
    ],
)
def test_what_needs_two_domains_says_so(capsys, words, named):
    assert main(["run", "data=synthetic", *words]) == 2
    assert named in capsys.readouterr().err


def probs_of(folder: Path, part: str = "test") -> np.ndarray:
    with (folder / "predictions" / f"{part}.csv").open() as file:
        return np.array(
            [[float(value) for key, value in row.items() if key[:2] == "p_"] for row in csv.DictReader(file)]
        )


@pytest.mark.parametrize(
    ("transfer", "objective"),
    [pytest.param("fine_tune", "val/infomax", marks=pytest.mark.slow), ("statistics", "val/accuracy")],
)
def test_a_soup_of_two_domains_is_chosen_by_the_objective_of_its_members(transfer, objective, capsys):
    written("source.npz", 200, 0, 0)
    written("target.npz", 200, 40, 1, garbage=True)
    words = [*WORDS[:-2], "epochs=2", "ensemble=soup", "lr=3e-3,5e-3", "guard=false"]
    code = main(["run", "-m", *words, f"transfer={transfer}", f"objective={objective}", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    answer = json.loads(said.out.splitlines()[-1])
    (soup,) = answer["ensembles"]
    rank = {Path(trial["run_dir"]).name: trial["metrics"][objective] for trial in answer["trials"]}
    kept = [name.rpartition("#")[2] for name in soup["kept"]]
    assert kept[0] == max(rank, key=rank.__getitem__)
    states = [load_file(Path(trial["run_dir"]) / "model.safetensors") for trial in answer["trials"]]
    own = load_file(Path(soup["run_dir"]) / "model.safetensors")
    for name, tensor in own.items():
        if not name.startswith("align."):  # fitted again, to the average
            mean = sum(states[int(number) - 1][name].double() for number in kept) / len(kept)
            np.testing.assert_allclose(tensor.numpy(), mean.numpy(), rtol=1e-5, atol=1e-7)
    target = np.load("target.npz")
    found = tune.load(soup["run_dir"]).predict(list(target["images"][target["split"] == "test"]))
    np.testing.assert_allclose(found.numpy(), probs_of(Path(soup["run_dir"])), atol=1e-3)


@pytest.mark.slow
def test_runs_without_a_source_decide_together_or_as_a_soup_from_one_start(capsys):
    written("source.npz", 200, 0, 0)
    written("target.npz", 200, 40, 1, garbage=True)
    words = [*WORDS[:-2], "epochs=2", "transfer=source_free", "objective=val/infomax", "guard=false"]
    for how, reason in (("soup", "each of these learns its source by itself"), ("stacking", "source_free has none")):
        assert main(["run", "-m", *words, f"ensemble={how}", "lr=3e-3,5e-3"]) == 2
        assert reason in capsys.readouterr().err
    assert not Path("outputs").exists()
    assert main(["run", "-m", *words, "ensemble=average", "lr=3e-3,5e-3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    (ensemble,) = answer["ensembles"]
    members = [Path(trial["run_dir"]) for trial in answer["trials"]]
    for part in ("val", "test"):
        mean = (probs_of(members[0], part) + probs_of(members[1], part)) / 2
        np.testing.assert_allclose(probs_of(Path(ensemble["run_dir"]), part), mean, atol=1e-6)
    p = probs_of(Path(ensemble["run_dir"]), "val")
    between = sum(-q * np.log(q) for q in p.mean(axis=0)) + (p * np.log(p)).sum(axis=1).mean()
    assert ensemble["metrics"]["val/infomax"] == pytest.approx(between, abs=1e-4)
    start = next(Path("outputs").glob("*/beside-*"))
    code = main(["run", "-m", *words, f"backbone.weights=run:{start}", "ensemble=soup", "lr=3e-3,5e-3", "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert json.loads(said.out.splitlines()[-1])["ensembles"][0]["kept"]
