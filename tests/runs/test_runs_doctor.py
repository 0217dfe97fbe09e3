"""`tune doctor` names each of the planted faults, and is silent where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tune.cli.main import main
from tune.data.readers.synthetic import Synthetic
from tune.train.doctor.checks import CHECKS

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("elsewhere")]

HERE = Path(__file__).parent
OWN = ["data=synthetic", "data.rows=90", "batch_size=16", "epochs=6"]
RUN = [*OWN, "backbone=convnet", "freeze=full", "lr=3e-3"]


@pytest.fixture
def ask(elsewhere, capsys, monkeypatch):
    """`tune doctor --quick --json`, with the faults as modules of the user's own; gives what it found and the code."""
    shutil.copy(HERE / "doctor_faults.py", "doctor_faults.py")
    monkeypatch.syspath_prepend(Path.cwd())

    def go(*words: str) -> tuple[dict[str, list[dict]], int]:
        code = main(["doctor", "--quick", "--json", "--allow", "doctor_faults", *words])
        answer = json.loads(capsys.readouterr().out.splitlines()[-1])
        found: dict[str, list[dict]] = {}
        for each in answer["findings"]:
            found.setdefault(each["check"], []).append(each)
        assert answer["status"] == ("failed" if code else "ok")
        return found, code

    return go


def own(group: str, name: str) -> str:
    """An option of the user's own; the word that chooses it."""
    option = Path("conf") / group / f"{name.lower()}.yaml"
    option.parent.mkdir(parents=True, exist_ok=True)
    option.write_text(f"# One of the user's own.\n_target_: doctor_faults.{name}\n")
    return f"{group}={name.lower()}"


def arrays(**changed: np.ndarray) -> list[str]:
    """Drawn shapes as a file of arrays; the words that choose it."""
    table = Synthetic(rows=90).read()
    np.savez("shapes.npz", **{"images": table.images, "labels": table.labels, **changed})
    words = ["data=arrays", "data.file=shapes.npz", "batch_size=16", "epochs=6"]
    return [*words, "backbone=convnet", "freeze=full", "lr=3e-3"]


def photographs() -> list[str]:
    """Twelve large files of two classes, for a network that takes 32 pixels."""
    draw = np.random.default_rng(0)
    for k, name in enumerate(("dark", "bright")):
        for number in range(15):
            Path("photos", name).mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(90 * k, 90 * k + 80, (600, 800, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path("photos", name, f"{number}.png"), compress_level=1)
    return ["data.root=photos", "backbone=lenet", "freeze=full", "epochs=1", "batch_size=8", "lr=3e-3"]


def shuffled() -> list[str]:
    words = arrays(labels=np.random.default_rng(0).permutation(np.arange(90) % 3))
    return [*words, "backbone=efficientnet_lite0", "backbone.input_size=32", "freeze=deep"]


def copied() -> list[str]:
    table = Synthetic(rows=90).read()
    table.images[1::9], table.labels[1::9] = table.images[::9], table.labels[::9]
    return arrays(images=table.images, labels=table.labels)


def one_absent() -> list[str]:
    split = np.where(np.arange(90) % 3 == 2, "val", np.where(np.arange(90) % 5 == 0, "val", "train"))
    return [*arrays(split=split), "data.split.test=0"]


FAULTS = {
    "shuffled labels": (shuffled, {"labels"}),
    "labels from 1": (lambda: [*RUN[2:], own("data", "FromOne")], {"data", "build", "classes"}),
    "wrong normalisation": (lambda: [*RUN, own("backbone", "Unnormalised")], {"pixels"}),
    "double softmax in the head": (lambda: [*RUN, own("head", "Softmax")], {"start"}),
    "double softmax in the loss": (lambda: [*RUN, own("loss", "TwiceSoftmax")], {"loss"}),
    "loss on the wrong tensor": (lambda: [*RUN, own("loss", "WrongTensor")], {"loss"}),
    "frozen, but should train": (lambda: [*RUN, own("backbone", "Detached")], {"trained"}),
    "missing from the optimizer": (lambda: [*RUN, own("optimizer", "forgetful")], {"optimizer"}),
    "a norm that follows the data": (lambda: [*RUN, own("backbone", "Wakeful"), "freeze=deep"], {"frozen"}),
    "all weights zero": (lambda: [*RUN, "init=normal", "init.std=0"], {"build"}),
    "vanishing gradients": (
        lambda: [
            *RUN,
            "backbone.activation=sigmoid",
            "backbone.depth=10",
            "backbone.norm=none",
            "backbone.pool_every=4",
        ],
        {"gradients"},
    ),
    "exploding start": (lambda: [*RUN, "init=normal", "init.std=2"], {"start"}),
    "dead ReLUs": (lambda: [*RUN, own("backbone", "Dead")], {"units"}),
    "rate too high": (lambda: [*RUN, "backbone.norm=none", "lr=0.3"], {"update", "rate"}),
    "rate too low": (lambda: [*RUN, "lr=3e-7"], {"update"}),
    "weight decay that drowns": (lambda: [*RUN, "regularize.weight_decay=500"], {"decay"}),
    "a penalty that drowns": (lambda: [*RUN, "regularize.l2=20"], {"terms"}),
    "rows that leak": (lambda: [*RUN, own("head", "Leaking")], {"leak"}),
    "copies across parts": (copied, {"duplicates"}),
    "an absent class": (one_absent, {"classes", "data"}),
    "a loss with a wrong gradient": (lambda: [*RUN, own("loss", "WrongGradient")], {"gradcheck"}),
    "a layer with a wrong gradient": (lambda: [*RUN, own("head", "WrongLayer")], {"gradcheck"}),
    "a slow loader": (photographs, {"loader"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(ask, fault):
    words, names = FAULTS[fault]
    found, code = ask(*words(), "--skip", "overfit")  # which fails as well where nothing can be learned, in 10 s
    bad = {each["check"] for some in found.values() for each in some if each["status"] in ("FAIL", "WARN")}
    assert bad & names, found
    assert all(each["text"] for some in found.values() for each in some)
    if any(each["status"] == "FAIL" for some in found.values() for each in some):
        assert code == 4
    else:
        assert code == 0


def test_all_that_speak_against_a_rate_advise_one_of_the_same_order_that_trains(ask):
    words = ["--only", "gradients,update,rate", "optimizer=sgd"]
    found, _ = ask(*RUN, *words, "lr=1e9")
    assert found["gradients"][0]["status"] == "SKIP", "what the thrown weights give is no gradient to judge"
    advised = {float(found[name][0]["do"].removeprefix("lr=").partition(",")[0]) for name in ("update", "rate")}
    assert len(advised) == 1
    found, code = ask(*RUN, *words, f"lr={advised.pop()}")
    assert code == 0, found


def test_of_accumulated_batches_the_steps_alone_count(ask):
    found, _ = ask(*RUN, "--only", "update,rate", "trainer.accumulate_grad_batches=4", "epochs=3")
    assert found["update"][0]["status"] == "PASS", "three of four batches move nothing"
    begun = float(found["rate"][0]["text"].split()[1])
    assert begun == pytest.approx(np.log(3), rel=0.5), "three classes, and not a quarter of it"


HEALTHY = {
    "convnet, all of it": lambda: RUN,
    "frozen features": lambda: [*OWN, "backbone.input_size=64", "lr=1e-2"],
    "the last third": lambda: [*OWN, "backbone.input_size=64", "freeze=mid", "augment=flip", "regularize=standard"],
    "lenet on digits": lambda: ["data=digits", "backbone=lenet", "freeze=full", "lr=1e-3"],
    "the user's own": lambda: [*RUN, own("backbone", "Small"), own("head", "Plain"), own("loss", "Pure")],
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_raises_no_alarm(ask, name):
    found, code = ask(*HEALTHY[name]())
    bad = [each for some in found.values() for each in some if each["status"] in ("FAIL", "WARN")]
    assert not bad
    assert code == 0
    assert set(found) >= CHECKS.keys() - {"picture"}


def test_nothing_is_left_behind(ask):
    words = [*RUN, "cache.dir=kept"]
    before = sorted(Path().rglob("*"))
    ask(*words, "--only", "optimizer,loader,overfit")
    assert sorted(path for path in Path().rglob("*") if "__pycache__" not in path.parts) == before


def test_only_and_skip_choose_checks_and_refuse_what_is_none(ask, capsys):
    found, _ = ask(*RUN, "--only", "loss,classes,disk", "--skip", "disk")
    assert set(found) == {"loss", "classes"}
    for words in (["--only", "losss"], ["--skip", ",".join(CHECKS)], ["--picture", "nowhere/batch.png"]):
        assert main(["doctor", *RUN, *words]) == 2
        assert words[0] in capsys.readouterr().err


def test_the_picture_shows_the_pixels_that_the_network_takes(ask):
    ask(*RUN, "--only", "picture", "--picture", "batch.png")
    with Image.open("batch.png") as picture:
        drawn = np.asarray(picture.convert("RGB"))
    assert drawn.shape == (4 * 142, 4 * 128, 3)
    tile = drawn[14:142, :128].reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    images = Synthetic(rows=90).read().images.astype(float)
    assert np.abs(images - tile).mean(axis=(1, 2, 3)).min() < 6  # one of the rows, up to the resizing by four


def test_a_sweep_and_a_chain_are_looked_at_by_their_first(ask, capsys):
    _, code = ask("experiment=smoke/sweep", "--only", "classes")
    assert code == 0
    assert main(["doctor", "experiment=elpv/chain", "--only", "device"]) == 0
    assert "first stage" in capsys.readouterr().err


def test_the_process_that_asks_gets_the_code(tune, tiny):
    tune("doctor", *tiny, "--only", "device,images")
    done = tune("doctor", *tiny, "init=normal", "init.std=0", "backbone=convnet", "--only", "start", code=4)
    assert "FAIL  build" in done.stdout
    assert "1 failure" in done.stdout
