"""How many rows fit into a training step: powers of two, each in a process of its own that really trains.

A process that runs out of memory, or is killed for it, ends alone; and what one size leaves behind burdens no other.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from pytorch_lightning.callbacks import Callback

from tune.data.pixels import free_bytes
from tune.errors import ConfigError, RunError
from tune.train.devices.memory import resident_bytes
from tune.train.prepare import prepare
from tune.train.probe.steps import train_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

FIRST, STEPS = 8, 3
_SPARE = 0.9
"""Share of the free memory that a step may be expected to take."""


@dataclass(frozen=True)
class Size:
    """What a step with so many rows took.

    Args:
        rows: of a batch.
        seconds: of a step, the first not counted; 0 where it does not fit.
        num_bytes: memory that the process took for the run, at its peak; of a GPU, that on it.
        trouble: why it does not fit; empty if it does.
    """

    rows: int
    seconds: float = 0.0
    num_bytes: int = 0
    trouble: str = ""


def sizes(config: dict[str, Any], rows: int, device: str, one: Callable[[int], Size] | None = None) -> Iterator[Size]:
    """Sizes from 8 rows up by factors of two, until one does not fit or has all rows; if 8 do not fit, down to 1.

    On a CPU a size is not tried that would not fit into free memory if the growth goes on, so the machine never swaps.

    Args:
        config: of the run.
        rows: that train.
        device: "cpu", "cuda" …
        one: tries a size; by default in a process of its own.
    """
    one = one or (lambda size: _in_a_process(config, size))
    fitting: list[Size] = []
    size = FIRST
    while size <= max(rows, FIRST):
        if device == "cpu" and len(fitting) > 1 and (needed := expected(fitting)) > _SPARE * (free := free_bytes()):
            yield Size(size, trouble=f"would take about {needed / 1e9:.1f} GB of {free / 1e9:.1f} free")
            return
        found = one(size)
        yield found
        if found.trouble and fitting:
            return
        if not found.trouble:
            if size < FIRST:
                return
            fitting.append(found)
        elif size == 1:
            return
        size = size // 2 if not fitting else size * 2


def expected(fitting: list[Size]) -> int:
    """Memory of twice the last size: what is added grows with the rows, the rest stays."""
    before, last = fitting[-2].num_bytes, fitting[-1].num_bytes
    return last + 2 * max(0, last - before)


def accumulation(batch_size: int, largest: int) -> int:
    """Batches per optimizer step with which `batch_size` rows go through in equal parts of at most `largest`."""
    return next(
        parts for parts in range(1, batch_size + 1) if batch_size % parts == 0 and batch_size // parts <= largest
    )


def advice(batch_size: int, now: int, largest: int, *, is_full: bool, grow: bool) -> tuple[list[str], str]:
    """Words to paste, and what to say of them behind how many rows fit.

    Args:
        batch_size: rows of a step.
        now: batches that make one.
        largest: rows of the largest batch that fits.
        is_full: whether more did not fit; else there are no more rows.
        grow: whether the largest batch is to be taken for a step.
    """
    at_once = ["trainer.accumulate_grad_batches=1"] if now > 1 else []
    if grow and at_once and largest == batch_size:
        return at_once, f": one batch makes a step of {batch_size}, as before"
    if grow and (largest > batch_size or (is_full and largest < batch_size)):
        return [f"batch_size={largest}", *at_once], ". It is another training: look for the rate anew, tune lr-find"
    if batch_size // now <= largest or not is_full:
        return [], f": batch_size={batch_size} does, leave it as it is"
    parts = accumulation(batch_size, largest)
    told = f": {parts} batches of {batch_size // parts} make a step of {batch_size}, as before"
    return [f"trainer.accumulate_grad_batches={parts}"], told


def of_size(config: dict[str, Any], size: int) -> dict[str, Any]:
    """The run with `size` rows in a step, and an epoch that no step which is timed has to wait for the end of."""
    trainer = {**config["trainer"], "accumulate_grad_batches": 1}
    return {**config, "batch_size": size, "trainer": trainer, "epoch_steps": STEPS}


def _in_a_process(config: dict[str, Any], size: int) -> Size:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_try, args=(config, size, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        child.join()
        if child.exitcode != -9:
            raise RunError(f"the process that tried {size} rows ended with {child.exitcode}") from None
        found = Size(size, trouble="the process was killed, as is done when memory runs out")
    child.join()
    if isinstance(found, Exception):
        raise found
    return found


def _try(config: dict[str, Any], size: int, answer: Connection) -> None:
    """In the child: train some steps, and send what they took, or what is wrong."""
    before, watch = resident_bytes(), _Clock(size)
    try:
        prepared = prepare(of_size(config, size), decode=False)
        train_steps(prepared, STEPS, [watch])
    except torch.OutOfMemoryError as error:
        answer.send(Size(size, trouble=f"out of memory: {str(error).splitlines()[0].partition('. GPU')[0]}"))
    except RuntimeError as error:
        is_full = "can't allocate memory" in str(error)
        answer.send(Size(size, trouble="out of memory") if is_full else RunError(f"with {size} rows: {error}"))
    except ConfigError as error:
        answer.send(error)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) - before
        if prepared.device == "cuda":
            peak = torch.cuda.max_memory_allocated()
        answer.send(Size(size, min(watch.seconds, default=0.0), max(0, peak)))


@final
class _Clock(Callback):
    """Seconds of each whole batch but the first, with the reading of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        float(outputs["loss"])  # waits for a GPU
        now = time.monotonic()
        if self._last and len(next(iter(batch.values())).labels) == self.size:
            self.seconds.append(now - self._last)
        self._last = now
