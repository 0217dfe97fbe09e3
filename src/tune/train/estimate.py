"""How long a run would take, from a few batches of it."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

import torch
from lightning_fabric.utilities import move_data_to_device

from tune.models.freeze import apply_phase
from tune.models.interface import FittedHead

if TYPE_CHECKING:
    from tune.train.prepare import Prepared


def estimate_seconds(prepared: Prepared, batches: int = 3) -> float:
    """Seconds for all epochs with their validation, and the test, from the time of a few batches of each.

    The first batch, which warms up, is not counted; nor is the fit of a head that is fitted at once. The network is
    changed by this, so it is of no use afterwards.
    """
    learner, data = prepared.learner, prepared.data
    if isinstance(prepared.network.head, FittedHead):
        return prepared.frozen.estimate_seconds()
    phase = prepared.phases[-1]  # the dearest: everything that ever trains
    learner.phase = phase
    apply_phase(prepared.network, phase, prepared.plan.norm)
    device = {"cuda": "cuda", "mps": "mps"}.get(prepared.device, "cpu")
    learner.to(device)
    optimizer = learner.make_optimizer(learner.groups())
    learner.train()

    def step(batch) -> None:
        moved = move_data_to_device(batch, torch.device(device))
        outputs = [(prepared.network(learner.entering(each.images)), each) for each in moved.values()]
        losses = [
            learner.loss(output, each) if bool((each.labels >= 0).all()) else output.logits.mean()
            for output, each in outputs
        ]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def look(batch) -> None:
        with torch.no_grad():
            for each in batch.values():
                prepared.network(learner.entering(each.images.to(device)))

    kept = prepared.frozen.rows[-1] is not None  # then a batch costs what trains, and every image once what is frozen
    training = _per_batch(data.train_dataloader(), step, batches, with_loading=not kept)
    learner.eval()
    validation = _per_batch(data.val_dataloader(), look, batches, with_loading=not kept)
    epochs = prepared.config["epochs"]
    test = len(data.test_dataloader()) * validation
    epoch = len(data.train_dataloader()) * training + len(data.val_dataloader()) * validation
    return epochs * epoch + test + prepared.frozen.estimate_seconds()


def _per_batch(loader, act, batches: int, *, with_loading: bool) -> float:
    spent, since, counted = 0.0, time.monotonic(), 0
    for number, batch in enumerate(islice(iter(loader), batches + 1)):
        started = since if with_loading else time.monotonic()
        act(batch)
        since = time.monotonic()
        if number:
            spent += since - started
            counted = number
    return spent / counted if counted else 0.0
