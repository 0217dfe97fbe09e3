"""Runs as files for other programs, and their cards, through the real command line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import tune
from tune.cli.main import main
from tune.data.readers.synthetic import Synthetic
from tune.evaluate.export.verify import differences

SMALL = ["data=synthetic", "data.classes=2", "data.rows=60", "epochs=1", "threshold=f1"]
CONVNET = [*SMALL, "backbone=convnet", "backbone.depth=2", "backbone.input_size=16", "freeze=full"]
TASKS = ["data.tasks={half:{kind:classification},x:{kind:regression}}", "head=multi_task"]
LITE = [*SMALL, "backbone.input_size=32"]

# Warnings of other packages go to run.log, as for a user.
pytestmark = [pytest.mark.filterwarnings("default")]


def answer(capsys, *words, code=0):
    capsys.readouterr()
    assert main([*words, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def by_hand(run_dir, number=7):
    """Pixels 0-1 (N, 3, H, W), resized by Pillow alone, and the images that they are of."""
    images = Synthetic(2, number, noise=0.3).read().images
    height, width = tune.load(run_dir).transform.size
    method = tune.load(run_dir).transform.resampling
    pixels = [np.array(Image.fromarray(image).convert("RGB").resize((width, height), method)) for image in images]
    return np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32) / 255, images


def assert_says_what_the_run_says(run_dir, said, images):
    loaded = tune.load(run_dir)
    assert np.abs(said["probabilities"] - loaded.predict(images).numpy()).max() < 1e-4
    odds = said["logits"] - np.log(said["probabilities"])
    assert np.abs(odds - odds[:, :1]).max() < 1e-4  # softmax of the logits, but for a constant per row
    tasks = loaded.predict_tasks(images)
    assert np.abs(said["half"] - tasks["half"].numpy()).max() < 1e-4
    assert said["x"] == pytest.approx(tasks["x"].numpy(), abs=1e-4)


def test_onnx_takes_pixels_and_tells_all_in_any_number(trained, capsys):
    run_dir = trained(*CONVNET, *TASKS)
    found = answer(capsys, "export", str(run_dir), "--format", "onnx", "--verify")
    assert found["verified"] is True
    assert found["images"] == 12
    assert found["differences"].keys() == {"probabilities", "logits", "half", "x"}
    assert max(found["differences"].values()) < 1e-4
    file = Path(found["file"])
    assert file == run_dir / "export" / "model.onnx"
    onnx.checker.check_model(onnx.load(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    pixels, images = by_hand(run_dir)
    for count in (1, 7):
        said = dict(zip(names, session.run(None, {"images": pixels[:count]}), strict=True))
        assert_says_what_the_run_says(run_dir, said, images[:count])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["disk", "square"]
    assert json.loads(told["threshold"]) == tune.load(run_dir).threshold
    assert json.loads(told["size"]) == [16, 16]
    assert json.loads(told["resize"])["fit"] == "crop"
    assert json.loads(told["tasks"])["half"]["kind"] == "classification"
    assert json.loads(told["outputs"]) == names
    assert told["run"] == run_dir.name[-6:]
    assert told["tune"] == tune.__version__


def test_torch_export_is_loaded_without_tune(trained, capsys):
    run_dir = trained(*CONVNET, *TASKS)
    found = answer(capsys, "export", str(run_dir), "--format", "torch-export", "--verify", "--out", "net.pt2")
    assert found["verified"] is True
    extra = {"tune.json": ""}
    module = torch.export.load("net.pt2", extra_files=extra).module()
    told = json.loads(extra["tune.json"])
    pixels, images = by_hand(run_dir)
    for count in (1, 7):
        said = dict(zip(json.loads(told["outputs"]), module(torch.from_numpy(pixels[:count])), strict=True))
        assert_says_what_the_run_says(run_dir, {k: v.detach().numpy() for k, v in said.items()}, images[:count])


def test_safetensors_holds_the_network_and_how_it_is_built(trained, capsys):
    run_dir = trained(*CONVNET, *TASKS)
    found = answer(capsys, "export", str(run_dir), "--format", "safetensors", "--verify")
    assert found["verified"] is True
    state, own = load_file(found["file"]), tune.load(run_dir).network.state_dict()
    assert state.keys() == own.keys()
    assert all(torch.equal(state[name], own[name]) for name in own)
    with safe_open(found["file"], "pt") as file:
        model = json.loads(file.metadata()["model"])
    assert model["backbone"]["depth"] == 2
    assert model["partial"] is False


def test_a_delta_holds_what_trained_and_the_whole_holds_all(trained, capsys):
    run_dir = trained(*LITE, "freeze=mid")
    delta = answer(capsys, "export", str(run_dir), "--format", "safetensors", "--delta", "--verify")
    whole = answer(capsys, "export", str(run_dir), "--format", "safetensors", "--verify")
    assert delta["verified"] is whole["verified"] is True
    small, large = load_file(delta["file"]), load_file(whole["file"])
    public = trained(*LITE, "freeze=deep")
    same = load_file(public / "model.safetensors")
    changed = {name for name in large if name not in same or not torch.equal(large[name], same[name])}
    assert changed <= small.keys() < large.keys()
    assert not any(name.startswith("backbone.model.conv_stem") for name in small)
    assert all(torch.equal(small[name], large[name]) for name in small)
    drawn = trained(*LITE, "freeze=mid", "backbone.weights=none")
    for run_dir, text in ((trained(*CONVNET, *TASKS), "nothing of this run was frozen"), (drawn, "random weights")):
        assert main(["export", str(run_dir), "--format", "safetensors", "--delta"]) == 2
        assert text in capsys.readouterr().err


def test_a_trial_that_kept_only_its_head_is_exported_whole(trained, capsys):
    assert main(["run", "-m", *LITE, "lr=1e-3,1e-2", "name=swept"]) == 0
    kept = {path.parent: load_file(path) for path in Path("outputs/swept").glob("sweep-*/*/model.safetensors")}
    trial = min(kept, key=lambda path: len(kept[path]))
    assert all(name.startswith("head.") for name in kept[trial])
    found = answer(capsys, "export", str(trial), "--format", "safetensors", "--verify")
    assert found["verified"] is True
    assert load_file(found["file"]).keys() == tune.load(trial).network.state_dict().keys()


LYING = """
import torch
from tune.models.interface import Backbone, InputSpec

class Lying(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))
        self.feature_dim, self.layers = 3, {"only": ["scale"]}
        self.input = InputSpec((16, 16), (0.5,) * 3, (0.5,) * 3, "bilinear")
        self.weights_source, self.weights_digest = "random weights", ""

    def forward(self, images):
        features = images.mean(dim=(2, 3)) * self.scale
        return features + 1 if torch.compiler.is_compiling() else features
"""


def test_a_file_that_says_something_else_is_found_out(trained, capsys):
    trained(*CONVNET, *TASKS)  # the working directory
    Path("lying.py").write_text(LYING)
    Path("conf/backbone").mkdir(parents=True)
    Path("conf/backbone/lying.yaml").write_text("# Says something else when it is exported.\n_target_: lying.Lying\n")
    sys.path.insert(0, str(Path.cwd()))
    words = [*SMALL, "backbone=lying", "freeze=full", "--allow", "lying", "init=own", "name=lying"]
    assert main(["run", *words]) == 0
    run_dir = next(Path("outputs/lying").iterdir())
    found = answer(capsys, "export", str(run_dir), "--format", "torch-export", "--verify", "--allow", "lying", code=4)
    assert found["verified"] is False
    assert found["status"] == "failed"
    assert found["differences"]["logits"] > 1e-4
    sys.path.remove(str(Path.cwd()))


def test_the_largest_difference_is_told_per_output(trained):
    loaded = tune.load(trained(*CONVNET, *TASKS))
    mean, std = loaded.transform.mean, loaded.transform.std

    def run(pixels, error=0.0):
        output = loaded.network((pixels - mean) / std)
        task = loaded.tasks["x"]
        number = output.tasks["x"][:, 0] * task.scale + task.centre
        return [output.logits.softmax(1) + error, output.logits, output.tasks["half"].softmax(1), number]

    images = list(Synthetic(2, 20).read().images)
    assert max(differences(loaded, run, images).values()) < 1e-6
    found = differences(loaded, lambda pixels: run(pixels, 3e-4), images)
    assert found["probabilities"] == pytest.approx(3e-4, rel=1e-2)
    assert found["logits"] < 1e-6


def test_a_card_says_what_the_records_say_and_no_more(trained, capsys):
    run_dir = trained(*CONVNET, *TASKS)
    record = json.loads((run_dir / "run.json").read_text())
    found = answer(capsys, "export", str(run_dir), "--format", "card", "--out", "card.md")
    text = Path(found["card"]).read_text()
    low, high = record["intervals"]["test/accuracy"]
    assert f"| test/accuracy | {record['metrics']['test/accuracy']:.4g} | {low:.3f} – {high:.3f} |" in text
    counts = [record["prevalence"][part][0] for part in ("train", "val", "test")]
    assert f"| disk | {counts[0]} | {counts[1]} | {counts[2]} |" in text
    assert f"{record['threshold']:.4g}" in text
    assert record["data"]["fingerprint"][:16] in text
    assert "backbone.depth=2" in text
    assert "Few test rows of a class (disk" in text
    assert "tune Apache-2.0" in text
    assert "data: none: drawn by tune itself" in text
    assert "- this model: unknown: fill in" in text
    assert re.search(r"off by \d+\.\d points on average \(ECE", text)


def test_names_appear_in_a_card_as_text(trained, tmp_path, capsys):
    trained(*CONVNET, *TASKS)  # the working directory
    classes = ["<img src=x onerror=alert(1)>", "a|b_c"]
    for number, (pixels, label) in enumerate(zip(*[Synthetic(2, 40).read().images, [0, 1] * 20], strict=True)):
        (tmp_path / classes[label]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / classes[label] / f"{number}.png")
    words = ["data=folder", f"data.root={tmp_path}", *CONVNET[3:], "name=odd"]
    assert main(["run", *words]) == 0
    found = answer(capsys, "export", str(next(Path("outputs/odd").iterdir())), "--format", "card")
    text = Path(found["card"]).read_text()
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "a\\|b\\_c" in text
    assert "data: unknown: fill in" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--format", "onnx", "--delta"], "has no effect on onnx"),
        (["--images", "x.png"], "without --verify"),
        (["--format", "card", "--verify"], "has no effect on a card"),
        (["--out", "no/such/net.onnx"], "there is no folder"),
        (["--verify", "--images", "nowhere"], "there is no file"),
    ],
)
def test_what_cannot_be_exported_is_refused(trained, words, text, capsys):
    run_dir = str(trained(*CONVNET, *TASKS))
    assert main(["export", run_dir, *words]) == 2
    assert text in capsys.readouterr().err


def test_a_fitted_head_is_no_graph(trained, capsys):
    words = [word for word in LITE if word != "epochs=1"]
    run_dir = str(trained(*words, "head=sklearn", "head.name=logistic_regression"))
    assert main(["export", run_dir, "--format", "onnx"]) == 2
    assert "no graph" in capsys.readouterr().err
    assert answer(capsys, "export", run_dir, "--format", "safetensors", "--verify")["verified"] is True


FAMILIES = {
    "resnet50": ["backbone=timm", "backbone.name=resnet50", "backbone.weights=none", "backbone.input_size=64"],
    "efficientnet_lite0": ["backbone.input_size=64"],
    "vit_small": ["backbone=timm", "backbone.name=vit_small_patch16_224", "backbone.weights=none"],
    "pair": ["backbone=pair"],
    "multi_task": ["backbone.input_size=64", *TASKS],
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch-export", "safetensors"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_of_every_family_says_what_the_run_says(trained, capsys, family, form):
    run_dir = trained(*SMALL, "data.rows=160", *FAMILIES[family], "freeze=full")
    found = answer(capsys, "export", str(run_dir), "--format", form, "--verify")
    assert found["verified"] is True
    assert found["images"] == 32
