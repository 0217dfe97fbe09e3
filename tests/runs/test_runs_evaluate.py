"""`tune evaluate` of ensembles, and of data that the run has seen, through the real command line."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.metrics import f1_score, roc_auc_score

import tune
from tune.cli.main import main
from tune.data.readers.synthetic import Synthetic
from tune.evaluate.loaded import LoadedEnsemble
from tune.train.finished.form import Form

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default")]

SMALL = ["data=folder", "data.root=photos", "backbone.input_size=32", "batch_size=16", "epochs=1", "lr=1e-2"]
WAYS = {
    "average": ["ensemble=seeds", "ensemble.members=2", "threshold=f1", "augment.flip_vertical=0.5"],
    "boost": ["ensemble=boosting", "ensemble.members=2", "lr=1e-3"],
    "soup": ["-m", "ensemble=soup", "lr=1e-2,3e-3"],
    "folds": ["ensemble=average", "data.split.folds=3"],
    "stack": ["-m", "head=linear,mlp", "ensemble=stacking", "ensemble.folds=2"],
}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with 100 photographs of two classes, files of one size, and runs on them."""
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("evaluate")
    patch.chdir(folder)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    table = Synthetic(2, 100, noise=0.7).read()
    for i, (pixels, label) in enumerate(zip(table.images, table.labels, strict=True)):
        path = Path("photos") / table.classes[label] / f"{i:02}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels)).save(path)
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def together(here):
    """`together(how)` is the folder of an ensemble, trained once."""
    known: dict[str, Path] = {}

    def train(how):
        if how not in known:
            before = set(Path("outputs").glob("*/sweep-*/ensemble"))
            assert main(["run", *SMALL, *WAYS[how]]) == 0
            known[how] = (set(Path("outputs").glob("*/sweep-*/ensemble")) - before).pop()
        return known[how]

    return train


def evaluate(capsys, *words):
    """Exit code, answer, and all that was said."""
    capsys.readouterr()
    code = main(["evaluate", *map(str, words), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out.splitlines()[-1]) if said.out else {}, said.out + said.err


def of_file(run_dir, part):
    """Labels (N,) as numbers, and p of the second class (N,)."""
    with (run_dir / "predictions" / f"{part}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([int(row["label"] == "square") for row in rows]), np.array([float(row["p_square"]) for row in rows])


def photos_of(run_dir, part):
    with (run_dir / "predictions" / f"{part}.csv").open() as file:
        return [Image.open(Path("photos") / row["path"]) for row in csv.DictReader(file)]


SLOW = {"boost", "stack", "folds"}


@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.slow] * (how in SLOW)) for how in WAYS])
def test_an_ensemble_is_measured_again_as_it_was(together, capsys, how):
    folder = together(how)
    record, (labels, p) = json.loads((folder / "run.json").read_text()), of_file(folder, "test")
    code, answer, said = evaluate(capsys, folder)
    assert code == 0, said
    assert "as run.json has it" in said
    assert "not as run.json" not in said
    kept = {name: value for name, value in record["metrics"].items() if name.startswith("test/")}
    assert answer["metrics"] == pytest.approx(kept, abs=1e-5)
    assert answer["metrics"]["test/accuracy"] == pytest.approx(((p > 0.5) == labels).mean())
    if how != "boost":  # the six digits of the file hide what the average adds to the votes
        assert answer["metrics"]["test/auroc"] == pytest.approx(roc_auc_score(labels, p), abs=1e-4)
    low, high = record["intervals"]["test/auroc"]
    assert f"[{low:.3f}, {high:.3f}]" in said
    assert not (folder / "evaluations").exists()


def test_an_ensemble_asks_its_members_in_six_digits_as_their_files_have_them(together):
    folder = together("average")
    form = Form(tune.load(folder))
    (answered,) = form.over(photos_of(folder, "test"), batch_size=32, workers=1, bad=[])
    sums = 2e6 * answered.probs.double()
    assert (sums - sums.round()).abs().max() < 0.1


def test_flipped_views_of_an_ensemble_are_those_of_its_members(together, capsys):
    folder = together("average")
    _, answer, said = evaluate(capsys, folder, "--tta")
    assert answer["views"] == ["as it is", "upside down"], said
    images, loaded = photos_of(folder, "test"), tune.load(folder)
    assert isinstance(loaded, LoadedEnsemble)
    seen = [
        member.predict([view(image) for image in images])
        for member in loaded.members
        for view in (Image.Image.copy, ImageOps.flip)
    ]
    p = torch.stack(seen).mean(dim=0)[:, 1].numpy()
    labels = of_file(folder, "test")[0]
    assert answer["metrics"]["test/auroc"] == pytest.approx(roc_auc_score(labels, p), abs=0.02)
    assert answer["metrics"]["test/accuracy"] == pytest.approx(((p > 0.5) == labels).mean(), abs=0.05)
    assert json.loads((folder / "evaluations" / "test-tta.json").read_text())["metrics"] == answer["metrics"]


@pytest.mark.parametrize("how", ["average", "folds"])
def test_what_is_fitted_for_an_ensemble_reads_what_it_said_of_validation_rows(together, capsys, how):
    folder = together(how)
    labels, p = of_file(folder, "val")
    assert len(labels) == {"average": 16, "folds": 80}[how]
    code, answer, said = evaluate(capsys, folder, "--calibrate", "--threshold", "f1")
    assert code == 0, said
    assert answer["calibration"]["fitted_on"] == len(labels)
    found, lines = answer["calibration"], said.splitlines()
    told = [f"{name.upper()} {found[f'{name}_before']:.3f} → {found[f'{name}_after']:.3f}" for name in ("ece", "nll")]
    fitted = f"calibrate T = {found['temperature']:.3f} from {len(labels)} validation rows"
    place = lines.index(f"{fitted}; of the rows measured {', '.join(told)}")
    is_few = len(labels) < 50
    assert lines[place + 1].startswith(f"note      {len(labels)} validation rows are few") == is_few
    assert bool(found["doubt"]) == is_few
    assert found["at_edge"] is False
    best = max(f1_score(labels, p > step / 1000) for step in range(1, 1000))
    assert f1_score(labels, p > answer["threshold"]) >= best
    known, q = of_file(folder, "test")
    assert answer["metrics"]["test/accuracy"] == pytest.approx(((q > answer["threshold"]) == known).mean())


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("folds", "validate different rows"),
        pytest.param("stack", "a stack learned from", marks=pytest.mark.slow),
    ],
)
def test_validation_rows_that_trained_a_member_are_not_seen_anew(together, capsys, how, text):
    for flags in (["--calibrate"], ["--threshold", "f1"]):
        code, _, said = evaluate(capsys, together(how), "--tta", *flags)
        assert code == 2
        assert text in said
        assert "leave out --tta" in said
    assert evaluate(capsys, together(how), "--tta")[0] == 0
    assert evaluate(capsys, together(how), "--tta", "--threshold", "0.4")[0] == 0


@pytest.mark.parametrize("how", ["average", "soup"])
@pytest.mark.parametrize("flags", [["--attack", "fgsm"], ["--pictures"], ["--pictures", "--tta"]])
def test_what_needs_one_network_names_a_member_to_take(together, capsys, how, flags):
    folder = together(how)
    code, _, said = evaluate(capsys, folder, *flags)
    assert code == 2
    assert f"{flags[0]}  (command line)  is of one run, and this is an ensemble" in said
    assert f"take one of its members, as {folder.parent.name.removeprefix('sweep-')}#1" in said


@pytest.fixture
def other(together, tmp_path):
    """A folder with copies of 3 training rows, 2 validation rows and 4 test rows of a run, and 5 new photographs."""
    run_dir, parts = together("average").parent / "1", {}
    for part in ("val", "test"):
        with (run_dir / "predictions" / f"{part}.csv").open() as file:
            parts[part] = sorted(row["path"] for row in csv.DictReader(file))
    outside = {*parts["val"], *parts["test"]}
    every = sorted(str(path.relative_to("photos")) for path in Path("photos").rglob("*.bmp"))
    parts["train"] = [name for name in every if name not in outside]
    table = Synthetic(2, 100, noise=0.6).read()
    for name in table.classes:
        (tmp_path / "other" / name).mkdir(parents=True)
    for part, count in (("train", 3), ("val", 2), ("test", 4)):
        for i, name in enumerate(parts[part][:count]):
            (tmp_path / "other" / Path(name).parent / f"{part}{i}.bmp").write_bytes(
                (Path("photos") / name).read_bytes()
            )
    for i in range(5):
        path = tmp_path / "other" / table.classes[int(table.labels[i])] / f"new{i}.bmp"
        Image.fromarray(np.asarray(table.images)[i]).save(path)
    assert len({path.stat().st_size for root in ("photos", tmp_path) for path in Path(root).rglob("*.bmp")}) == 1
    return tmp_path / "other"


def notes(said):
    return [line for line in said.splitlines() if line.startswith("note ")]


BETTER = "their numbers look better than they are"


def test_rows_that_a_run_learned_from_are_counted(together, other, capsys):
    run_dir = together("average").parent / "1"
    for folder in (run_dir, run_dir.parent / "ensemble"):
        code, answer, said = evaluate(capsys, folder, f"data.root={other}")
        assert code == 0, said
        assert answer["counts"] == {"test": 14}
        assert answer["overlap"] == {"train": 3, "val": 2}
        assert notes(said) == [
            f"note      3 of 14 rows are among the run's training rows (first: disk/train0.bmp): {BETTER}",
            "note      2 of 14 rows are among the run's validation rows, which chose its epoch "
            f"(first: disk/val0.bmp): {BETTER}",
        ]
        assert json.loads(Path(answer["file"]).read_text())["overlap"] == answer["overlap"]


def test_a_row_that_one_member_learned_from_is_a_training_row_of_an_ensemble(together, other, capsys):
    _, answer, said = evaluate(capsys, together("folds"), f"data.root={other}")
    with (together("folds") / "predictions" / "test.csv").open() as file:
        tested = {(Path("photos") / row["path"]).read_bytes() for row in csv.DictReader(file)}
    known = {path.read_bytes() for path in Path("photos").rglob("*.bmp")} - tested
    count = sum(path.read_bytes() in known for path in other.rglob("*.bmp"))
    assert answer["overlap"] == {"train": count, "val": 0}, said


def test_nothing_is_said_where_no_row_is_known(together, other, capsys):
    for path in [*other.rglob("train*"), *other.rglob("val*")]:
        path.unlink()
    _, answer, said = evaluate(capsys, together("average").parent / "1", f"data.root={other}")
    assert answer["overlap"] == {"train": 0, "val": 0}
    assert answer["counts"] == {"test": 9}
    assert notes(said) == []


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_without_the_runs_own_data_other_rows_are_measured_all_the_same(together, other, capsys, what):
    run_dir = together("average").parent / "1"
    first = next(Path("photos").rglob("*.bmp"))
    kept = first.stat().st_mtime_ns
    if what == "gone":
        Path("photos").rename("moved")
    else:
        os.utime(first, ns=(kept, kept + 10**9))
    try:
        code, answer, said = evaluate(capsys, run_dir, f"data.root={other}")
    finally:
        if what == "gone":
            Path("moved").rename("photos")
        os.utime(first, ns=(kept, kept))
    assert code == 0, said
    assert answer["counts"] == {"test": 14}
    assert answer["overlap"] is None
    (note,) = notes(said)
    assert note.startswith("note      not looked for: whether rows are among those that the run learned from; ")
    assert ("there is no folder" if what == "gone" else "changed since this run") in note


def test_an_ensemble_is_measured_on_other_data(together, capsys, tmp_path):
    folder = together("average")
    for name in ("disk", "square"):
        (tmp_path / name).mkdir()
        for path in sorted((Path("photos") / name).iterdir())[::5]:
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    code, answer, said = evaluate(capsys, folder, f"data.root={tmp_path}")
    assert code == 0, said
    assert main(["predict", str(folder), str(tmp_path), "--out", "other.csv"]) == 0
    with Path("other.csv").open() as file:
        right = [Path(row["path"]).parent.name == row["predicted"] for row in csv.DictReader(file)]
    assert answer["metrics"]["test/accuracy"] == pytest.approx(np.mean(right))
    assert answer["counts"] == {"test": len(right)}


@pytest.mark.parametrize("how", ["average", "soup"])
def test_an_ensemble_is_still_not_reproduced(together, capsys, how):
    assert main(["reproduce", str(together(how)), "--dry-run"]) == 2
    assert "is an ensemble; take one of its members" in capsys.readouterr().err


def test_a_soup_is_verified_on_the_test_part_of_its_members(together, capsys):
    words = ["export", str(together("soup")), "--format", "safetensors", "--verify", "--out", "soup.safetensors"]
    assert main(words) == 0
    assert "on 20 images" in capsys.readouterr().out


def test_what_is_said_of_a_run_that_is_all_right(here, capsys):
    """A metric whose resamples are all alike has no interval, and rows that are all right no best temperature."""
    easy = ["data=synthetic", "data.classes=2", "data.rows=100", "data.noise=0", "backbone.input_size=64", "epochs=9"]
    assert main(["run", "-m", *easy, "lr=1e-2,3e-2", "ensemble=average", "--json"]) == 0
    told = capsys.readouterr().out
    answer = json.loads(told.splitlines()[-1])
    assert "average of 2: test accuracy 1.000 [0.839, 1.000]   auroc 1.000   members" in told
    runs = [Path(trial["run_dir"]) for trial in answer["trials"]]
    for folder in (*runs, Path(answer["ensembles"][0]["run_dir"])):
        record = json.loads((folder / "run.json").read_text())
        assert record["metrics"]["test/accuracy"] == record["metrics"]["test/auroc"] == 1
        assert record["intervals"].keys() == {"test/accuracy"}
    _, answer, said = evaluate(capsys, runs[0], "--calibrate")
    assert "accuracy 1.000 [0.839, 1.000]   balanced_accuracy 1.000   auroc 1.000   f1 1.000   n = 20" in said
    assert answer["calibration"]["temperature"] == 0.05
    assert answer["calibration"]["at_edge"] is True
    assert f"\nnote      {answer['calibration']['doubt']}\n" in said
    doubted = answer["calibration"]["doubt"]
    assert "every validation row is right" in doubted
    _, answer, said = evaluate(capsys, runs[0], *easy[:4])  # arrays: the very same rows
    assert answer["overlap"] == {"train": 64, "val": 16}
    assert answer["counts"] == {"test": 100}
    assert main(["compare", *map(str, runs)]) == 0
    assert "test/auroc" in capsys.readouterr().out
    for words in (["reproduce", runs[0], "--anyway"], ["export", runs[0], "--format", "card"], ["report", runs[0]]):
        assert main([*map(str, words)]) == 0, words
    page = (runs[0] / "report.md").read_text()
    assert doubted in page.replace("\\", "")
    assert "less sure than it could be" not in page
