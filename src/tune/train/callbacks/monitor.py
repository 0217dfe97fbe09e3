from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback

from tune.run_dir import atomic_write
from tune.train.callbacks.loggers import SafeLogger
from tune.train.callbacks.origin import layers_of_modules, layers_of_tensors
from tune.train.callbacks.rectified import Rectified
from tune.train.callbacks.worries import THROWN, LayerStep, of_loss, of_penalties, of_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

COLUMNS = ("epoch", "step", "layer", "weight_norm", "gradient_norm", "update_ratio", "dead_units")


@final
class Monitor(Callback):
    """Writes monitor.csv, a row for each layer that trains in the middle step of each epoch, and warns in one line.

    - weight_norm: length of all its weights that train, before the step.
    - gradient_norm: of their gradient, before it is clipped.
    - update_ratio: length of what the step changed, over weight_norm.
    - dead_units: share of the channels behind its rectifiers that are 0 for every row and position of the step's last
      batch, and learn nothing from it; empty without rectifiers. One that is a function and no module is not seen.

    The middle step has a whole batch, which the last one may not, and is not the first of a fresh optimizer, which
    moves more than any other. Looking at one step in an epoch keeps the cost far below that of the epoch.

    Args:
        run_dir: the run folder.
        say: prints a line.
    """

    def __init__(self, run_dir: Path, say: Callable[[str], None]) -> None:
        self.path, self.say = run_dir / "monitor.csv", say
        self.lines: list[list[str]] = []
        self.said: list[str] = []  # kinds of warnings
        self.seen: list[LayerStep] = []
        self.step = 0
        self.starts: dict[str, Tensor] = {}  # what trains, before the step that is looked at
        self.lengths: list[Tensor] = []  # of the weights, then of the gradients
        self.first: list[Tensor] = []  # loss of the first batch
        self.rectified: Rectified | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"said": self.said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.said = list(state_dict["said"])

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.parameters = dict(pl_module.named_parameters())
        self.layers, self.modules = layers_of_tensors(pl_module), layers_of_modules(pl_module.network)
        if self.path.exists():  # a resumed run drops the rows of epochs that it trains again
            with self.path.open(newline="") as file:
                self.lines = [line for line in list(csv.reader(file))[1:] if int(line[0]) <= trainer.current_epoch]

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.middle = middle(int(trainer.num_training_batches), trainer.accumulate_grad_batches)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.middle:
            self.rectified = Rectified(pl_module.network, self.modules, pl_module.phase.trained)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self.rectified is not None and not self.starts:  # L-BFGS comes here many times in a step
            self._before(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.first:
            self.first.append(outputs["loss"].detach() * trainer.accumulate_grad_batches)  # Lightning divides it
        if self.rectified is not None:
            dead, self.rectified = self.rectified.shares(), None
            self._after(trainer, pl_module, dead)
            now = float(outputs["loss"]) * trainer.accumulate_grad_batches
            self._warn(of_loss(float(self.first[0]), now, pl_module, trainer.optimizers[0], trainer.current_epoch))

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self.seen:
            self._write(trainer)  # what was seen of the epoch that does not end

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._write(trainer)
        values = {
            f"monitor/{layer.name}/{what}": number
            for layer in self.seen
            for what, number in zip(COLUMNS[3:], layer.numbers, strict=True)
            if number is not None
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, self.step)
        self.seen = []

    def _write(self, trainer: Any) -> None:
        epoch = trainer.current_epoch + 1
        self.lines += [[str(epoch), str(self.step), layer.name, *map(_cell, layer.numbers)] for layer in self.seen]
        if trainer.is_global_zero:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([COLUMNS, *self.lines])
            atomic_write(self.path, text.getvalue())

    @torch.no_grad()
    def _before(self, trainer: Any, pl_module: Any) -> None:
        parts = {name: p for name, p in self.parameters.items() if p.grad is not None}
        self.starts = {name: part.detach().clone() for name, part in parts.items()}
        grads = {name: part.grad for name, part in parts.items() if part.grad is not None}
        self.lengths = [_lengths(list(self.starts.values())), _lengths(list(grads.values()))]
        if trainer.current_epoch == 0:
            self._warn(of_penalties(pulls(pl_module, grads), pl_module))
        for logger in trainer.loggers:
            if isinstance(logger, SafeLogger):
                logger.log_histograms({"weights": self.starts, "gradients": grads}, trainer.global_step + 1)

    @torch.no_grad()
    def _after(self, trainer: Any, pl_module: Any, dead: dict[str, tuple[float, int]]) -> None:
        now = [self.parameters[name] for name in self.starts]
        changes = torch._foreach_sub(now, list(self.starts.values()))
        squares = torch.stack([*self.lengths, _lengths(changes)]).double().square().T.tolist()
        of_layers: dict[str, list[list[float]]] = {}
        for name, three in zip(self.starts, squares, strict=True):
            of_layers.setdefault(self.layers[name], []).append(three)
        self.starts, self.lengths, self.step, self.seen = {}, [], trainer.global_step, []
        for layer, parts in of_layers.items():
            weight, gradient, change = (sum(part) ** 0.5 for part in zip(*parts, strict=True))
            share, values = dead.get(layer, (None, 0))
            self.seen.append(LayerStep(layer, weight, gradient, change / weight if weight else None, share, values))
        if not THROWN & set(self.said):
            self._warn(of_step(self.seen, pl_module, trainer.optimizers[0], trainer.current_epoch))

    def _warn(self, found: Iterable[tuple[str, str]]) -> None:
        for kind, line in found:
            if kind not in self.said:
                self.said.append(kind)
                self.say(f"warning: {line}")


def middle(batches: int, accumulate: int) -> int:
    """The last batch of the middle step of an epoch, counted from 0; the earlier of two in the middle.

    Args:
        batches: of the epoch.
        accumulate: batches per step.
    """
    steps = -(-batches // accumulate)
    return min(((steps - 1) // 2 + 1) * accumulate, batches) - 1


def pulls(learner: Any, grads: dict[str, Tensor]) -> dict[str, float]:
    """Length of the gradient of each penalty over that of everything else in the loss.

    Args:
        learner: with the penalties, and with the weights that the gradients belong to.
        grads: of the whole loss, by the parameter's name.
    """
    named, found = dict(learner.named_parameters()), {}
    for name, penalty in learner.penalties.items():
        with torch.enable_grad():
            value = penalty(learner.network)
        if value.requires_grad:
            own = torch.autograd.grad(value, [named[each] for each in grads], materialize_grads=True, allow_unused=True)
            rest = _lengths(torch._foreach_sub(list(grads.values()), list(own))).norm()
            found[name] = float(_lengths(own).norm() / rest)
    return found


def _lengths(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(list(tensors)))


def _cell(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"
