"""What a config may name. Everything else is refused: a YAML is data, and whoever wrote it runs no code through it.

Allowed are definitions of ours, a list of names from other packages, and modules that the user allowed on the command
line (`--allow my_losses`) or in their pyproject (`[tool.tune] allow = ["my_losses"]`), never in the YAML itself.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tune.config.habits import nearest
from tune.config.signature.source import Found, find
from tune.errors import ConfigError, Problem

OURS = (
    "tune.data.readers.",
    "tune.data.augment.",
    "tune.models.backbones.",
    "tune.models.heads.",
    "tune.models.freeze.",
    "tune.models.init.",
    "tune.losses.",
    "tune.transfer.",
    "tune.train.optim.",
    "tune.train.schedules.",
)
THEIRS = frozenset(
    {
        "pytorch_lightning.trainer.trainer.Trainer",
        "pytorch_lightning.loggers.csv_logs.CSVLogger",
        "pytorch_lightning.loggers.mlflow.MLFlowLogger",
        "pytorch_lightning.loggers.tensorboard.TensorBoardLogger",
        "pytorch_lightning.loggers.wandb.WandbLogger",
    }
)
"""Where each is defined; a shorter name that leads there (pytorch_lightning.Trainer) is as good."""

SPECIAL = ("_partial_", "_recursive_", "_convert_", "_args_")
"""Keys that Hydra's own instantiate would act upon."""


def refusal(target: object, extra: Iterable[str] = ()) -> str:
    """Why a `_target_` may not be used, "" if it may.

    What counts is where the name leads: a module that is allowed cannot pass on what it has imported.

    Args:
        target: the dotted name.
        extra: modules, or packages of modules, that the user allowed.
    """
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return f"{target!r} is no dotted name of a class or function"
    if not is_known(target, extra):
        module = target.rpartition(".")[0]
        if not module or module.partition(".")[0] in sys.stdlib_module_names:
            return f"{target} is not allowed: a config names classes of tune, or of a module of yours that you allow"
        return f"{target} is not allowed. If it is yours and you trust it: --allow {module}"
    found = find(target)
    if isinstance(found, Found):
        return "" if is_known(found.name, extra) else f"{target} leads to {found.name}, which is not allowed"
    return f"{target}: {found}{_near(target)}"


def is_known(name: str, extra: Iterable[str] = ()) -> bool:
    """Whether a dotted name is ours, on the list, or below a module that the user allowed."""
    if any(name.startswith(prefix) for prefix in OURS) or name in THEIRS:
        return True
    short = name.startswith("pytorch_lightning.") and name.rpartition(".")[2] in {
        each.rpartition(".")[2] for each in THEIRS
    }
    return short or any(name.startswith(f"{module}.") for module in extra)


def problems(cfg: dict[str, Any], extra: Iterable[str] = ()) -> list[Problem]:
    """Every `_target_` of a config that may not be used, and every other key that is Hydra's own."""
    extra = tuple(extra)
    found: list[Problem] = []
    for key, node in nodes(cfg):
        for name in SPECIAL:
            if name in node:
                found.append(Problem(f"{key}.{name}".lstrip("."), "is not used here: remove it"))
        if "_target_" in node:
            why = refusal(node["_target_"], extra)
            if why:
                found.append(Problem(f"{key}._target_".lstrip("."), why))
    return found


def nodes(value: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping inside a value, with its dotted key, outermost first."""
    if isinstance(value, dict):
        yield key, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from nodes(item, f"{key}.{name}" if key else str(name))


def allowed_by_user(command_line: Iterable[str] = (), folder: Path | None = None) -> list[str]:
    """Modules that the user allowed: those of `--allow`, then those of ./pyproject.toml.

    Raises:
        ConfigError: if a name is no module name.
    """
    file = (folder or Path.cwd()) / "pyproject.toml"
    names = [part.strip() for word in command_line for part in word.split(",") if part.strip()]
    where = dict.fromkeys(names, "command line")
    if file.is_file():
        where |= {name: file.name for name in _listed(file, file.stat().st_mtime_ns) if name not in where}
    wrong = [
        Problem("--allow", f"{name!r} is no module name: write it as in `import`", origin)
        for name, origin in where.items()
        if not all(part.isidentifier() for part in name.split("."))
    ]
    if wrong:
        raise ConfigError(*wrong)
    return list(where)


@cache
def _listed(file: Path, _: int) -> tuple[str, ...]:
    """`[tool.tune] allow` of a pyproject.toml, read once as long as the file does not change."""
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("tune", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(Problem(file.name, f"cannot be read: {error}", file.name)) from error
    names = tool.get("allow", [])
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise ConfigError(Problem("tool.tune.allow", "must be a list of module names", file.name))
    return tuple(names)


def _near(target: str) -> str:
    """The nearest module or definition beside the one that is not there."""
    from tune.config.signature.source import Definition, module_of

    origin, _, name = target.rpartition(".")
    module = module_of(origin)
    if module is not None:
        close = nearest(name, [each for each, value in module.names.items() if isinstance(value, Definition)], 1)
        return f". Did you mean {origin}.{close[0]}?" if close else ""
    above, _, last = origin.rpartition(".")
    package = module_of(above) if above else None
    if package is None:
        return ""
    close = nearest(last, [path.stem for path in package.path.parent.glob("*.py")], 1)
    return f". Did you mean {above}.{close[0]}.{name}?" if close else ""
