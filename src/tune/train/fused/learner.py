"""The LightningModule of a group: K heads, one pass over the rows per epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor

from tune.batch import Batch
from tune.data.seeds import seed_device, seed_of
from tune.evaluate.metrics import measure_many
from tune.models.heads.dropout import KeyedDropout
from tune.train.callbacks.audit import never_had_a_gradient
from tune.train.callbacks.finite import no_longer_finite
from tune.train.fused.blocks import arrange, blocks_of, look, train
from tune.train.fused.heads import StackedHeads
from tune.train.fused.optim import StackedOptimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tune.train.fused.trial import Trial
    from tune.train.prepare import Prepared


@final
class FusedLearner(pl.LightningModule):
    """Trains the heads of K trials at once, each by its own rates, losses and order of rows.

    Optimization is manual: the K losses are summed, and as no parameter is shared, the gradient of the sum holds the
    gradient of each. A trial that ends, or whose loss is no longer finite, leaves at the end of the epoch; the others
    go on as if it had never been there.

    Args:
        trials: of one head shape and kind of optimizer.
        prepared: what they have in common.
        say: prints a line.
    """

    def __init__(self, trials: Sequence[Trial], prepared: Prepared, say: Callable[[str], None]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.trials, self.say = list(trials), say
        self.labels = torch.as_tensor(prepared.table.labels, dtype=torch.int64)
        self.alive = list(range(len(trials)))
        encoder = prepared.frozen.encoders[0]
        assert encoder is not None
        self.encoder = encoder
        self.orders = list(dict.fromkeys(trial.order for trial in trials))
        self.steps, self.audited = prepared.data.steps_per_epoch, prepared.data.epochs_per_pass
        device = torch.device({"cuda": "cuda", "mps": "mps"}.get(prepared.device, "cpu"))
        self.heads = StackedHeads(
            [trial.head for trial in trials],
            torch.zeros(2, prepared.network.backbone.feature_dim),
            sum(isinstance(module, KeyedDropout) for module in prepared.network.backbone.modules()),
        ).to(device)
        self.optimizer = StackedOptimizer(list(self.heads.stacked), [trial.optimizer for trial in trials])
        self.best = self.heads.values()
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self.moved: list[Tensor] = []  # largest gradient of each parameter, (K,), until all rows have come
        self._arrange()

    def configure_optimizers(self) -> None:
        """None that Lightning knows of."""

    def _arrange(self) -> None:
        """Blocks and vectors over the trials that are alive, after bringing them into the order of the blocks."""
        trials = [self.trials[number] for number in self.alive]
        order = arrange(trials, self.heads.shares)
        self._keep(order)
        trials = [trials[place] for place in order]
        self.blocks = blocks_of(trials, self.heads.shares, self.orders)
        self.strengths = {
            name: torch.tensor([getattr(trial.regularize, name) for trial in trials]) for name in ("l1", "l2")
        }

    def _keep(self, places: list[int]) -> None:
        """Go on with the heads at some places, in that order."""
        if places != list(range(len(self.alive))):
            alive = torch.tensor(places)
            self.alive = [self.alive[place] for place in places]
            self.heads.keep(alive)
            self.moved = [largest[alive] for largest in self.moved]
            self.optimizer.keep(list(self.heads.stacked), alive)

    def on_train_epoch_start(self) -> None:
        trials = [self.trials[number] for number in self.alive]
        first = self.current_epoch * self.steps
        rates = [[trial.rate(first + step) for trial in trials] for step in range(self.steps)]
        self.rates = torch.tensor(rates, dtype=torch.float64)  # (steps, K)
        self.totals: list[Tensor] = []
        self.sums: dict[str, Tensor] = {}
        self.rows = 0
        if self.current_epoch == 0:
            self.moved = [torch.zeros(len(trials), device=self.device) for _ in self.heads.names]

    def training_step(self, batches: dict[str, Batch], batch_idx: int) -> None:
        seed_device(seed_of("fused", self.current_epoch, batch_idx), self.device)
        step = self.current_epoch * self.steps + batch_idx
        batch = batches["target"]
        batch.images = self._features(batch.images)
        batch = self._apart(batch)
        rows = batch.labels.shape[1]
        terms = self.terms(batch.images, batch, step)
        total = torch.stack(list(terms.values())).sum(dim=0)  # (K,)
        for parameter in self.heads.stacked:
            parameter.grad = None
        self.manual_backward(total.sum())
        if self.current_epoch < self.audited:
            for number, parameter in enumerate(self.heads.stacked):
                assert parameter.grad is not None
                largest = parameter.grad.flatten(1).abs().amax(dim=1) if parameter.ndim > 1 else parameter.grad.abs()
                self.moved[number] = torch.maximum(self.moved[number], largest)
        self.optimizer.step(self.rates[batch_idx])
        self.totals.append(total.detach())
        self.rows += rows
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach() * rows

    def terms(self, features: Tensor, batch: Batch, step: int) -> dict[str, Tensor]:
        """Terms of the training loss by name, each (K,).

        Args:
            features: (S, B, D), of each order of rows.
            batch: of the same rows, with the same first dimension.
            step: of the training.
        """
        with torch.autocast(features.device.type, enabled=False):  # as `Network` has it
            losses = [train(block, self.heads, features, batch, step) for block in self.blocks]
        return {"loss": torch.cat(losses), **self._penalties()}

    def validation_step(self, batches: dict[str, Batch], batch_idx: int) -> None:
        self.look(batches["target"])

    def test_step(self, batches: dict[str, Batch], batch_idx: int) -> None:
        self.look(batches["target"])

    def on_test_epoch_end(self) -> None:
        index, probs, losses = self.seen_so_far()
        for place, number in enumerate(self.alive):
            self.trials[number].tested = index, self.labels[index], probs[place], _single(losses[place])

    def look(self, batch: Batch) -> None:
        """Add what the heads say of a batch."""
        features = batch.images = self._features(batch.images)
        with torch.autocast(features.device.type, enabled=False):
            logits, losses = zip(*(look(block, self.heads, features, batch) for block in self.blocks), strict=True)
        self.seen.append((batch.index, torch.cat(logits), torch.cat(losses) * len(batch.labels)))

    def seen_so_far(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of all batches since the last call: rows (N,), probabilities (K, N, C), mean losses (K,); on the CPU."""
        index = torch.cat([index for index, _, _ in self.seen]).cpu()
        logits = torch.cat([logits for _, logits, _ in self.seen], dim=1).cpu()
        loss = torch.stack([loss for _, _, loss in self.seen]).cpu().double().sum(dim=0) / len(index)
        self.seen.clear()
        order = index.argsort()
        probs = [some.double().softmax(dim=2).float() for some in logits[:, order].split(16)]
        return index[order], torch.cat(probs), loss

    def on_validation_epoch_end(self) -> None:
        self.validated = self.seen_so_far()

    def on_train_epoch_end(self) -> None:
        index, probs, losses = self.validated
        steps_done = (self.current_epoch + 1) * self.steps
        finite = torch.isfinite(torch.stack(self.totals)).cpu()  # (steps, K)
        means = {f"train/{name}": (value / self.rows).cpu() for name, value in self.sums.items()}
        metrics = measure_many(probs, self.labels[index])
        improved = []
        for place, number in enumerate(self.alive):
            trial = self.trials[number]
            if not bool(finite[:, place].all()):
                step = self.current_epoch * self.steps + int(finite[:, place].logical_not().nonzero()[0]) + 1
                self._end(trial, "diverged", no_longer_finite(self.current_epoch, f", step {step}"))
                continue
            if not bool(torch.isfinite(losses[place])):
                self._end(trial, "diverged", no_longer_finite(self.current_epoch, ", validation"))
                continue
            is_judged = self.current_epoch + 1 == min(self.audited, trial.config["epochs"])
            if is_judged and (cause := never_had_a_gradient(self._silent(place))):
                self._end(trial, "failed", cause)
                continue
            row = {"epoch": self.current_epoch + 1, "step": steps_done, "lr": trial.rate(steps_done)}
            own = {name: _single(value[place]) for name, value in means.items() if self._has(trial, name)}
            own |= {f"val/{name}": _single(values[place]) for name, values in metrics.items()}
            own["val/loss"] = _single(losses[place])
            if trial.see(self.current_epoch, row | dict(sorted(own.items()))):
                improved.append((place, number))
                trial.predictions = index, self.labels[index], probs[place].clone()
        if improved:
            places, numbers = (torch.tensor(column) for column in zip(*improved, strict=True))
            for name, tensor in zip(self.heads.names, self.heads.stacked, strict=True):
                self.best[name][numbers] = tensor.detach()[places].to(self.best[name].device)
        self._drop_the_ended()

    def _drop_the_ended(self) -> None:
        running = [place for place, number in enumerate(self.alive) if self.trials[number].status == "running"]
        if not running:
            self.trainer.should_stop = True
        elif len(running) < len(self.alive):
            self._keep(running)
            self._arrange()

    def _apart(self, batch: Batch) -> Batch:
        """(S · B, …) of several orders of rows as (S, B, …)."""
        parts = (batch.images, batch.labels, batch.label_probs, batch.weights, batch.index)
        return Batch(*(part.reshape(len(self.orders), -1, *part.shape[1:]) for part in parts))

    def _features(self, images: Tensor) -> Tensor:
        """(B, D) of images (B, C, H, W), or of what the frozen part has said of them (B, N)."""
        words = self.encoder(images) if images.ndim == 4 else images
        return self.encoder.cut.suffix(words.float(), False)

    def _penalties(self) -> dict[str, Tensor]:
        """(K,) of each kind that any trial has."""
        weights = [tensor for tensor in self.heads.stacked if tensor.ndim > 2]
        found = {}
        for name, each, factor in (("l1", torch.abs, 1.0), ("l2", torch.square, 0.5)):
            if bool(self.strengths[name].any()):
                total = torch.stack([each(weight).flatten(1).sum(dim=1) for weight in weights]).sum(dim=0)
                found[name] = factor * self.strengths[name].to(total.device) * total
        return found

    def _has(self, trial: Trial, name: str) -> bool:
        """Whether a trial alone would tell of a term of its loss."""
        return name == "train/loss" or bool(getattr(trial.regularize, name.removeprefix("train/")))

    def _silent(self, place: int) -> list[str]:
        return [
            f"head.{name}"
            for name, largest in zip(self.heads.names, self.moved, strict=True)
            if not float(largest[place]) > 0
        ]

    def _end(self, trial: Trial, status: str, cause: str) -> None:
        trial.status, trial.cause = status, cause
        self.say(f"{trial.run_dir.name}: {status}: {cause}")

    def load_best(self) -> list[int]:
        """Give each trial its best weights, and put those of all that are done into the heads; their numbers."""
        for number, trial in enumerate(self.trials):
            trial.weights = {name: values[number].cpu() for name, values in self.best.items()}
        done = [number for number, trial in enumerate(self.trials) if trial.status == "done"]
        shares = [self.heads.all_shares[number] for number in done]
        self.alive = [done[place] for place in arrange([self.trials[number] for number in done], shares)]
        self.heads.take(self.best, torch.tensor(self.alive, dtype=torch.int64))
        self.blocks = blocks_of([self.trials[number] for number in self.alive], self.heads.shares, self.orders)
        return self.alive


def _single(value: Any) -> float:
    """As a float32 would hold it, which is what Lightning keeps of a metric."""
    return float(torch.tensor(float(value), dtype=torch.float32))
