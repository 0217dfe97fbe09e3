"""Files that other programs load: ONNX, torch.export, safetensors; and how each is run again."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tune.config.build import build
from tune.data.tasks.task import Task
from tune.errors import ConfigError, Problem, RunError
from tune.evaluate.export.graph import INPUT, Exported, example, facts, graph_of, whole_file
from tune.evaluate.loaded import without_source
from tune.models.network import Network

if TYPE_CHECKING:
    from torch import Tensor

    from tune.evaluate.loaded import Loaded

Run = Callable[["Tensor"], list["Tensor"]]
"""Images (B, 3, H, W) of pixels 0-1 → what an `Exported` gives."""


def write_onnx(loaded: Loaded, path: Path) -> None:
    """The graph in one file, its facts as metadata_props; any number of images at once."""
    graph = graph_of(loaded)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                graph,
                (example(loaded),),
                input_names=[INPUT],
                output_names=graph.outputs,
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"torch cannot write this network as ONNX ({reason}); --format torch-export may do") from error
    program.model.metadata_props.update(facts(loaded, graph.outputs))
    with whole_file(path) as temporary:
        program.save(temporary, external_data=False)


def run_onnx(path: Path) -> Run:
    """The file in onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(each) for each in session.run(None, {INPUT: images.numpy()})]  # type: ignore[arg-type]


def write_torch_export(loaded: Loaded, path: Path) -> None:
    """The graph as `torch.export.load` reads it, its facts as the extra file tune.json."""
    graph = graph_of(loaded)
    with _quiet():
        program = torch.export.export(
            graph, (example(loaded),), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}}, strict=False
        )
        with whole_file(path) as temporary:
            torch.export.save(program, temporary, extra_files={"tune.json": json.dumps(facts(loaded, graph.outputs))})


def run_torch_export(path: Path) -> Run:
    """The file as torch.export loads it."""
    with _quiet():
        module = torch.export.load(path).module()
    return lambda images: list(module(images))


def write_safetensors(loaded: Loaded, path: Path, without: Collection[str] = ()) -> None:
    """The weights by their names in the network; from `model` in the metadata the network is built again.

    Args:
        loaded: the run.
        path: of the file.
        without: names that are left out, since the backbone's own weights hold them.
    """
    described = yaml.safe_load((loaded.run_dir / "model.yaml").read_text())
    if without:
        described |= {"partial": True, "backbone": _with_source(loaded.run_dir)}
    else:
        described |= {"partial": False, "backbone": without_source(described["backbone"])}
    state = {name: tensor for name, tensor in loaded.network.state_dict().items() if name not in without}
    copies = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    metadata = {**facts(loaded, []), "format": "pt", "model": json.dumps({**described, "output": ""})}
    with whole_file(path) as temporary:
        save_file(copies, temporary, metadata)


def run_safetensors(path: Path, output: str) -> Run:
    """The network built again from the file alone; of a delta, on the weights that its backbone names.

    Args:
        path: of the file.
        output: folder below which a backbone looks for runs.

    Raises:
        ConfigError: if the backbone's own weights are not those that the delta was trained on.
    """
    with safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["model"])
    backbone = build(described["backbone"], output=output)
    if described["partial"] and backbone.weights_digest != described["weights"]["digest"]:
        text = f"the weights that it was trained on ({described['weights']['source']}) are not what they were"
        raise ConfigError(Problem(str(path), text))
    tasks = {name: Task(**task) for name, task in described["tasks"].items()}
    told = {"feature_dim": described["feature_dim"], "num_classes": len(described["classes"]), "dropout": 0.0}
    head = build(described["head"], **told, tasks={name: task.num_outputs for name, task in tasks.items()})
    network = Network(backbone, head, aligned=described["aligned"])
    known = network.load_state_dict(load_file(path), strict=False)
    if known.unexpected_keys or (known.missing_keys and not described["partial"]):
        names = [*known.unexpected_keys, *known.missing_keys][:5]
        raise ConfigError(Problem(str(path), f"does not fit the network that it describes: {', '.join(names)}"))
    mean, std = (torch.tensor(described["input"][name])[:, None, None] for name in ("mean", "std"))
    graph = Exported(network, tasks, mean, std)
    return lambda images: list(graph(images))


def _with_source(run_dir: Path) -> dict[str, Any]:
    """The backbone's node with the place of its weights, which model.yaml of a whole network leaves out.

    Raises:
        ConfigError: if its weights were drawn, so that nothing but the file holds them.
    """
    described = yaml.safe_load((run_dir / "model.yaml").read_text())
    if not described["weights"]["digest"]:
        text = "the backbone started from random weights, which nobody else has: leave it out, or name another run"
        raise ConfigError(Problem("--delta", text, "command line"))
    if described["partial"]:
        return described["backbone"]
    return yaml.safe_load((run_dir / "config.yaml").read_text())["backbone"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters tell of their own inner steps."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
