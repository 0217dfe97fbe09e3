"""`tune report` on runs and sweeps that were really trained, with names that would be tags if they could."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn import metrics

from tune.cli.main import main

pytestmark = [pytest.mark.filterwarnings("default")]

CLASSES = ["<img src=x onerror=alert(1)>", 'a&b "c"', "_$x^{2}$"]
FILE = "<svg onload=alert(2)> [l](http:x) |p| "
RUN = ["data.root=photos", "data.split.test=0.4", "backbone.input_size=32", "epochs=2", "batch_size=16"]


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with photographs, one run, one without test part, a fitted one, and two sweeps."""
    folder = tmp_path_factory.mktemp("report")
    draw = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(0, 256, (24, 24, 3), dtype=np.uint8) // (k + 1)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{FILE}{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main(["run", *RUN, "name=one", "augment=flip", "regularize.l2=1e-3"]) == 0
        yield folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder


def report(capsys, *words: str) -> tuple[dict, Seen, str]:
    """The answer, the page and its twin."""
    capsys.readouterr()
    assert main(["report", *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    return answer, Seen(Path(answer["page"]).read_text()), Path(answer["markdown"]).read_text()


def sections(answer: dict) -> list[str]:
    return answer["parts"][-1]["sections"]


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def check_safe(page: Seen) -> None:
    """No script, no handler, nothing that is fetched."""
    assert {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "foreignobject", "base"} == set()
    for tag, given in page.tags:
        for key, value in given.items():
            assert not key.startswith("on")
            assert key != "style"
            if key in ("src", "href", "xlink:href"):
                assert re.match(r"#|data:(image/|,$)", value or ""), (tag, key, value)
            assert not re.search(r"url\((?!#)", value or ""), (tag, key, value)


def test_a_page_of_a_run_says_what_its_files_say(here, capsys):
    answer, page, twin = report(capsys, str(next(here.glob("outputs/one/2*"))))
    run_dir = Path(answer["folders"][0])
    record = json.loads((run_dir / "run.json").read_text())
    assert answer["status"] == "done"
    assert answer["page"] == str(run_dir / "report.html")
    assert sections(answer) == [
        "Result",
        "What the curves say",
        "What was run",
        "How to repeat it",
        "Metrics",
        "What trained, what was frozen",
        "Training",
        "Classes",
        "Thresholds",
        "Calibration",
        "The surest mistakes",
        "What the network sees",
        "Versions",
    ]
    for name, value in record["metrics"].items():
        assert re.search(rf"{value:.3f}|{value:.3g}", page.text), name
    low, high = record["intervals"]["test/accuracy"]
    assert f"[{low:.3f}, {high:.3f}]" in page.text
    assert record["versions"]["torch"] in page.text
    assert "tune run data.root=photos data.split.test=0.4" in page.text
    frozen = sum(each["parameters"] for each in record["freeze"] if each["trained"] == "frozen")
    assert f"{frozen:,} parameters were frozen" in page.text
    assert "train/l2" in page.text
    with (run_dir / "predictions" / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels, predicted = [row["label"] for row in rows], [row["predicted"] for row in rows]
    recall = metrics.recall_score(labels, predicted, labels=CLASSES, average=None)
    precision = metrics.precision_score(labels, predicted, labels=CLASSES, average=None, zero_division=np.nan)
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in twin.splitlines() if "|" in line]
    head = cells.index(["class", "precision", "recall", "F1", "n"])
    for number, name in enumerate(sorted(CLASSES)):
        line, place = cells[head + 2 + number], CLASSES.index(name)
        assert line[1] == ("–" if np.isnan(precision[place]) else f"{precision[place]:.3f}")
        assert line[2] == f"{recall[place]:.3f}"
        assert line[4] == str(labels.count(name))


def test_bad_names_are_text_in_the_page_in_its_drawings_and_in_its_twin(here, capsys):
    answer, page, twin = report(capsys, str(next(here.glob("outputs/one/2*"))))
    check_safe(page)
    for name in CLASSES:
        assert page.words.count(name) >= 5
        drawings = re.findall(r"<svg.*?</svg>", Path(answer["page"]).read_text(), re.DOTALL)
        texts = {each.text for svg in drawings for each in ElementTree.fromstring(svg).iter()}
        assert (name if len(name) <= 16 else f"{name[:15]}…") in texts
    assert FILE in page.text
    assert len([1 for tag, _ in page.tags if tag == "img"]) > 1
    outside = re.sub(r"(`{3,})text\n.*?\n\1", "", twin, flags=re.DOTALL)
    assert "<" not in outside
    assert "&lt;img src=x onerror=alert(1)&gt;" in outside
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", outside)
    assert links
    assert all((Path(answer["page"]).parent / link).is_file() for link in links)


def test_the_same_folder_gives_the_same_page(here, capsys):
    run = str(next(here.glob("outputs/one/2*")))
    first = Path(report(capsys, run)[0]["page"]).read_bytes()
    assert Path(report(capsys, run, "--out", "again.html")[0]["page"]).read_bytes() == first


def test_no_torch_is_imported(here):
    code = "import sys; from tune.cli.main import main; main(['report', 'latest', '--out', 'x.html']); "
    code += "print([m for m in ('torch', 'sklearn', 'timm', 'pytorch_lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_pictures_are_the_surest_mistakes_and_what_training_sees(here):
    run_dir = next(here.glob("outputs/one/2*"))
    index = json.loads((run_dir / "pictures" / "index.json").read_text())
    with (run_dir / "predictions" / "test.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: -float(row[f"p_{row['predicted']}"]))
    said = [(str(each["row"]), each["name"], each["label"], each["predicted"]) for each in index["mistakes"]]
    assert said == [(row["row"], row["path"], row["label"], row["predicted"]) for row in wrong[:8]]
    assert [each["confidence"] for each in index["mistakes"]] == [float(r[f"p_{r['predicted']}"]) for r in wrong[:8]]
    assert index["rows"] == len(rows)
    for each in index["mistakes"]:
        shown, real = opened(run_dir / "pictures" / each["image"]), opened(here / "photos" / each["name"])
        small = [np.asarray(image.resize((24, 24), Image.Resampling.BOX)).ravel() for image in (shown, real)]
        assert np.corrcoef(*small)[0, 1] > 0.7
        assert opened(run_dir / "pictures" / each["map"]).size == shown.size
    assert index["map"]["method"] == "Grad-CAM"
    assert index["samples"]["views"] == 3


def test_a_run_without_pictures_has_a_table_in_their_place(here, capsys):
    words = ["name=plain", "pictures=false", "data.split.test=0.4"]
    assert main(["run", *RUN, *words]) == 0
    run_dir = next(here.glob("outputs/plain/2*"))
    assert not (run_dir / "pictures").exists()
    answer, page, _ = report(capsys, str(run_dir))
    assert "The surest mistakes" in sections(answer)
    assert "What the network sees" not in sections(answer)
    assert f"tune evaluate {run_dir.name[-6:]} --pictures" in page.text
    assert main(["evaluate", str(run_dir), "--pictures"]) == 0
    assert (run_dir / "pictures" / "mistake-1.webp").is_file()
    assert "What the network sees" in sections(report(capsys, str(run_dir))[0])


def test_pictures_move_neither_weights_nor_draws(here):
    import torch

    words = ["run", *RUN, "freeze=mid", "regularize.dropout=0.2", "epochs=1", "output=moved"]
    after = []
    for name, drawn in (("with", "true"), ("without", "false")):
        torch.manual_seed(5)
        assert main([*words, f"name={name}", f"pictures={drawn}"]) == 0
        after.append(torch.rand(3).tolist())
    a, b = (next(here.glob(f"moved/{name}/2*")) for name in ("with", "without"))
    assert after[0] == after[1]
    for file in ("model.safetensors", "predictions/test.csv", "metrics.csv"):
        assert (a / file).read_bytes() == (b / file).read_bytes()


def test_a_run_that_ended_early_has_a_page_of_what_is_there(here, capsys):
    assert main(["run", *RUN, "name=early", "freeze=full", "optimizer=sgd", "lr=1e30"]) == 5
    run_dir = next(here.glob("outputs/early/2*"))
    answer, page, _ = report(capsys, str(run_dir))
    assert answer["parts"][0]["status"] == "diverged"
    assert "Nothing was measured" in page.text
    assert "Diverged" in page.text
    assert "What was run" in sections(answer)
    assert "Classes" not in sections(answer)
    (run_dir / "metrics.csv").unlink(missing_ok=True)
    record = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps({**record, "status": "running", "cause": ""}))
    assert report(capsys, str(run_dir))[0]["parts"][0]["status"] == "running"


def test_a_fitted_head_a_task_of_numbers_and_no_test_part(here, capsys):
    words = ["data.split.test=0", "head=sklearn", "head.name=naive_bayes", "name=fitted"]
    assert main(["run", *RUN[:1], "backbone.input_size=32", *words]) == 0
    answer, page, _ = report(capsys, "latest")
    assert "has no curve" in page.text
    assert "There is no test part" in page.text
    assert "has no gradient" in page.text
    assert {"Classes", "Calibration", "The surest mistakes"} <= set(sections(answer))
    synthetic = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "epochs=2", "name=tasks"]
    assert main(["run", *synthetic, "head=multi_task", "data.tasks={x:{kind:regression}}", "objective=val/x/mae"]) == 0
    answer, page, _ = report(capsys, "latest")
    assert "Errors, in the unit of what is told" in page.text
    assert "x/rmse" in page.text


def test_a_chain_has_the_curves_of_its_stages(here, capsys):
    synthetic = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "epochs=1", "freeze=mid"]
    assert main(["run", *synthetic, 'stages=[["data.split.seed=1"],["lr=1e-3"]]', "name=chained"]) == 0
    answer, page, _ = report(capsys, str(next(here.glob("outputs/chained/chain-*"))))
    assert {"Training: stage-1", "Training: stage-2", "Classes", "What the network sees"} <= set(sections(answer))
    check_safe(page)


@pytest.fixture(scope="module")
def swept(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        grid = ["lr=1e-4,1e-3,1e30", "regularize=none,dropout", "seed=0,1", "optimizer=sgd", "regularize.l2=1e-3"]
        words = ["data=synthetic", "data.rows=60", "backbone.input_size=32", "epochs=1", "name=swept"]
        assert main(["run", "-m", *words, *grid]) == 3
    return next(folder.glob("outputs/swept/sweep-*"))


def test_a_page_of_a_sweep_ranks_draws_and_names_what_failed(here, swept, capsys):
    answer, page, twin = report(capsys, swept.name.removeprefix("sweep-")[:5])
    assert Path(answer["page"]) == Path("outputs/swept") / swept.name / "report.html"
    assert sections(answer) == [
        "Result",
        "Leaderboard",
        "What each key does",
        "Keys together",
        "What is not done",
        "How to repeat it",
    ]
    check_safe(page)
    with (swept / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in twin.splitlines() if line.startswith("| ")]
    board = [line for line in cells if line[0].isdigit() and "±" in line[3]]
    done = [row for row in rows if row["status"] == "done"]
    means = sorted({float(row["mean val/accuracy"]) for row in done}, reverse=True)
    assert {line[3].split(" ")[0] for line in board} == {
        f"{mean:.3f}" if mean >= 0.1 else f"{mean:.3g}" for mean in means
    }
    failed = [line for line in cells if len(line) == 4 and line[1] in ("diverged", "failed")]
    assert {line[0] for line in failed} == {row["number"] for row in rows if row["status"] != "done"}
    assert all(line[2] == next(row["cause"] for row in rows if row["number"] == line[0]) for line in failed)
    assert "val/accuracy by lr" in page.text
    assert "Mean val/accuracy by lr and regularize" in page.text or "by regularize and lr" in page.text
    assert not list(swept.glob("*/pictures"))
    answer, _, _ = report(capsys, f"{swept.name.removeprefix('sweep-')}#1")
    assert "How to repeat it" in sections(answer)


def test_a_sweep_that_has_only_begun_has_a_page(here, swept, capsys, tmp_path):
    begun = tmp_path / "sweep-0000"
    begun.mkdir()
    (begun / "sweep.json").write_text((swept / "sweep.json").read_text())
    answer, page, _ = report(capsys, str(begun))
    assert "No trial has a result yet" in page.text
    assert "12 × not begun" in page.text
    assert answer["parts"][0]["status"] == "0 done"


def test_several_runs_stand_side_by_side(here, swept, capsys):
    a, b = sorted(path for path in swept.iterdir() if path.name in ("1", "5"))
    answer, page, _ = report(capsys, str(a), str(b), "--out", "both.html")
    assert answer["parts"][0]["sections"] == ["Metrics", "What differs"]
    assert len(answer["parts"]) == 3
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids))
    differs = page.text.partition("What differs\n")[2].partition("swept")[0]
    assert "0.0001" in differs
    assert "0.001" in differs
    assert "batch_size" not in differs


def test_secrets_of_the_command_line_stay_there(here, capsys):
    run_dir = here / "secret" / "2026-a-abcdef"
    run_dir.mkdir(parents=True)
    source = next(here.glob("outputs/one/2*"))
    record = json.loads((source / "run.json").read_text())
    words = ["logger.api_key=geheim", "lr=1e-3"]
    (run_dir / "run.json").write_text(json.dumps({**record, "overrides": words, "command": ["tune", "run", *words]}))
    (run_dir / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load((source / "config.yaml").read_text())))
    _, page, twin = report(capsys, str(run_dir))
    assert "geheim" not in page.text + twin
    assert "logger.api_key=" in page.text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nothing"], "no such run"),
        (["latest", "--out", "page.pdf"], "must end in .html"),
        (["latest", "--out", "nowhere/page.html"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_said(here, capsys, words, text):
    assert main(["report", *words, "--json"]) == 2
    shown = capsys.readouterr()
    assert text in shown.err
    assert json.loads(shown.out.splitlines()[-1])["status"] == "refused"
