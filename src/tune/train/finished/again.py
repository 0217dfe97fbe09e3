"""A finished run as it was when its training was over: the same rows, the best weights, the frozen part in its place.

An ensemble has no network of its own to stand up: its members are asked.

prepared, threshold = stand_up(run_dir, evaluate={"attack": "pgd"}, allow=[])
result = measure_again(prepared, threshold)
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tune.data.loading.orders import tested_rows
from tune.errors import ConfigError, Problem
from tune.evaluate.loaded import load
from tune.evaluate.metrics import measure_intervals, tell
from tune.evaluate.retrieval import METRICS as RETRIEVAL
from tune.models.weights_file import load_weights
from tune.run_dir import read_json, run_id
from tune.train.adapt.beside import with_source
from tune.train.callbacks.loggers import silent_lightning
from tune.train.devices.trainer import build_trainer
from tune.train.ensemble.combine import measured
from tune.train.finished.config import read_configs
from tune.train.finished.form import Form
from tune.train.finished.other import AS_IT_IS, probabilities
from tune.train.finished.rows import own_rows
from tune.train.prepare import Prepared, prepare
from tune.train.record import common_facts

_SEVERAL = ("devices", "strategy", "num_nodes", "accumulate_grad_batches")
"""Keys of a trainer that share the work out; what is measured does not depend on them."""


def stand_up(run_dir: Path, config: dict[str, Any], evaluate: dict[str, Any]) -> tuple[Prepared, float | None]:
    """Build a finished run with its best weights, and the threshold that it decides by.

    Args:
        run_dir: its folder.
        config: from `read_config`.
        evaluate: what is to be measured, in the place of what the run measured.

    Raises:
        ConfigError: if its data, their split or the weights it started from have changed, or an attack is impossible.
    """
    node = {key: value for key, value in config["trainer"].items() if key not in _SEVERAL}
    trainer = {**node, "devices": 1}
    asked = with_source(config, lambda line: None)
    prepared = prepare({**asked, "evaluate": evaluate, "trainer": trainer, "logger": {}})
    _refuse_changed(run_dir, prepared)
    network, learner = prepared.network, prepared.learner
    frozen = {name: tensor.clone() for name, tensor in network.state_dict().items() if name in prepared.unchanged}
    load_weights(run_dir, network)
    now = network.state_dict()
    if changed := [name for name, tensor in frozen.items() if not torch.equal(tensor, now[name])]:
        text = f"{changed[0]}, which was frozen, is not drawn now as it was then: the weights it started from are gone"
        raise ConfigError(Problem(run_id(run_dir), text))
    learner.enter(prepared.phases[-1])  # what is frozen to the end has kept its weights
    return prepared, read_json(run_dir / "run.json")["threshold"]


def measure_again(prepared: Prepared, threshold: float | None) -> dict[str, Any]:
    """Metrics, intervals and counts of the test part, as a run writes them into its run.json.

    The loss is left out where it has parameters of its own, which are not kept with the network.
    """
    learner, counts = prepared.learner, common_facts(prepared)["counts"]
    device = prepared.device
    with tempfile.TemporaryDirectory() as folder, silent_lightning():
        trainer = build_trainer(
            {**prepared.config["trainer"], "accelerator": {"cuda": "gpu", "xla": "tpu"}.get(device, device)},
            epochs=1,
            precision=prepared.precision.trainer,
            callbacks=[],
            loggers=[],
            root=Path(folder),
        )
        if device in ("cuda", "mps"):
            learner.to(torch.device(device)).place_frozen()
        trainer.test(learner, dataloaders=prepared.data.test_dataloader(), verbose=False)
    measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
    _, labels, probs = learner.measured["test"]
    metrics = {f"test/{name}": value for name, value in learner.answers.metrics["test"].items()}
    metrics |= {f"test/{name}": measured[f"test/{name}"] for name in RETRIEVAL if f"test/{name}" in measured}
    result = tell({"metrics": metrics}, counts, probs, labels, measured["test/loss"], threshold)
    if isinstance(learner.loss, nn.Module) and any(True for _ in learner.loss.parameters()):
        del result["metrics"]["test/loss"]
    return result | {"threshold": threshold}


def measure_together(run_dir: Path, output: str, allow: list[str]) -> dict[str, Any]:
    """The same of an ensemble, from what its members say of the images now.

    Args:
        run_dir: its folder.
        output: where runs are looked for.
        allow: modules of the user's that its members may name.

    Raises:
        ConfigError: if a member is gone, or the data or their split have changed.
    """
    first, config = next(iter(read_configs(run_dir, output, allow).items()))
    rows = own_rows(first, config)["test"]
    form, labels = Form(load(run_dir, output, allow), allow), torch.from_numpy(rows.labels)
    probs = probabilities(form, rows.images, AS_IT_IS)
    return {
        "metrics": {f"test/{name}": value for name, value in measured(probs, labels).items()},
        "intervals": {f"test/{name}": pair for name, pair in measure_intervals(probs, labels).items()},
        "counts": {"test": len(labels)},
        "threshold": None,
    }


def _refuse_changed(run_dir: Path, prepared: Prepared) -> None:
    record, facts, name = read_json(run_dir / "run.json"), common_facts(prepared), run_id(run_dir)
    problems = []
    if record["data"]["fingerprint"] != facts["data"]["fingerprint"]:
        problems.append(Problem(name, "the data changed since this run: other rows, names, labels or weights"))
    elif record["data"]["split"] != facts["data"]["split"]:
        problems.append(Problem(name, "its test part is not what it was: the rows are split otherwise now"))
    if record["weights"]["digest"] != facts["weights"]["digest"]:
        text = f"the weights it started from ({record['weights']['source']}) have changed"
        problems.append(Problem(name, text))
    if not len(tested_rows(prepared.table, prepared.parts)):
        problems.append(Problem(name, "has no test part"))
    if problems:
        raise ConfigError(*problems)
