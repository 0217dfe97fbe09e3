"""Lightning's own loggers, held so that one which fails costs its own lines and never the run."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any, final

from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch import nn

from tune.config.build import build
from tune.errors import MissingExtra
from tune.train.record import masked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


PACKAGES = {"TensorBoardLogger": "tensorboard", "MLFlowLogger": "mlflow", "WandbLogger": "wandb"}
"""Package, and extra of the same name, that each of Lightning's loggers needs."""


@final
class SafeLogger(Logger):
    """Hands everything to another logger until that fails; then says so once and goes on without it.

    Args:
        inner: the logger.
        say: prints a line.
    """

    def __init__(self, inner: Logger, say: Callable[[str], None]) -> None:
        super().__init__()
        self.inner, self.say, self.works = inner, say, True

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._try("log_metrics", metrics, step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._try("log_hyperparams", params)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Record the network alone: the graph of all that Lightning adds cannot be traced."""
        inner = self.inner
        if isinstance(inner, TensorBoardLogger) and inner._log_graph:
            was_training = model.training
            self._try_to(lambda: inner.experiment.add_graph(_Logits(model.network).eval(), model.example_input_array))
            model.train(was_training)

    def log_histograms(self, kinds: dict[str, dict[str, Tensor]], step: int) -> None:
        """Record how the numbers of tensors are spread, by kind and name; only TensorBoard takes it."""
        inner = self.inner
        if isinstance(inner, TensorBoardLogger):
            for kind, tensors in kinds.items():
                for name, tensor in tensors.items():
                    self._try_to(
                        lambda tag=f"{kind}/{name}", values=tensor: inner.experiment.add_histogram(tag, values, step)
                    )

    def save(self) -> None:
        self._try("save")

    def finalize(self, status: str) -> None:
        self._try("finalize", status)

    def _try(self, method: str, *arguments: Any) -> None:
        self._try_to(lambda: getattr(self.inner, method)(*arguments))

    def _try_to(self, act: Callable[[], Any]) -> None:
        if not self.works:
            return
        try:
            act()
        except Exception as error:  # whatever a logging service throws, it must not cost the run
            self.works = False
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.say(f"warning: the logger {type(self.inner).__name__} failed and is off: {first}")


class _Logits(nn.Module):
    """The network with a tensor as its output, which is what a tracer can follow."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits


def _named(node: Any) -> Any:
    """The same tree with names that every logging service takes: the `*` of a freezing rule is none to MLflow."""
    if isinstance(node, dict):
        return {re.sub(r"[^\w. :/-]", "_", str(key)): _named(value) for key, value in node.items()}
    return node


def require_package(node: dict[str, Any]) -> None:
    """Make sure that the package behind a `logger` node is there, before anything starts.

    Raises:
        MissingExtra: if it is not.
    """
    package = PACKAGES.get(node.get("_target_", "").rsplit(".", 1)[-1])
    if package and importlib.util.find_spec(package) is None:
        raise MissingExtra("logger", package, package)


def build_loggers(config: dict[str, Any], run_dir: Path, say: Callable[[str], None]) -> list[Logger]:
    """Make the logger of a config, with its files in the run folder, and hand it the config without its secrets.

    A config whose `logger` is empty has none.
    """
    node, name = config["logger"], config["name"]
    if "_target_" not in node:
        return []
    kind = node["_target_"].rsplit(".", 1)[-1]
    facts: dict[str, Any] = {
        "TensorBoardLogger": {"save_dir": str(run_dir), "name": "", "version": "tensorboard"},
        "MLFlowLogger": {"save_dir": str(run_dir / "mlflow"), "experiment_name": name, "run_name": run_dir.name},
        "WandbLogger": {"save_dir": str(run_dir), "project": "tune", "name": f"{name}-{run_dir.name}"},
    }.get(kind, {})
    facts = {key: value for key, value in facts.items() if key not in node}
    if kind == "MLFlowLogger" and "tracking_uri" not in node:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # which MLflow 3 asks for before it writes to a folder
    try:
        logger = SafeLogger(build(node, **facts), say)
        logger.log_hyperparams(_named(masked(config)))
        return [logger]
    except Exception as error:  # a server that does not answer, a full disk: the run matters more
        say(f"warning: the logger {kind} could not start and is off: {error}")
        return []


@contextlib.contextmanager
def quiet_lightning():
    """Keep Lightning's adverts off the screen; warnings go to run.log."""
    names = ["pytorch_lightning", "lightning.pytorch", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def silent_lightning():
    """The same where there is no run.log: its warnings are dropped too."""
    with quiet_lightning(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class run_log:  # noqa: N801  # used like a function
    """Sends warnings and log lines to run.log while a run runs.

    Args:
        run_dir: the run folder.
        echo: standard error is run.log already, as in a trial.
    """

    def __init__(self, run_dir: Path, echo: bool) -> None:
        self.handler = logging.StreamHandler(sys.stderr) if echo else logging.FileHandler(run_dir / "run.log")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def __enter__(self) -> None:
        self.level = logging.getLogger().level
        logging.getLogger().addHandler(self.handler)
        logging.getLogger().setLevel(logging.INFO)
        self.show = warnings.showwarning
        logging.captureWarnings(True)

    def __exit__(self, *error: object) -> None:
        logging.captureWarnings(False)
        warnings.showwarning = self.show
        logging.getLogger().removeHandler(self.handler)
        logging.getLogger().setLevel(self.level)
        self.handler.close()
