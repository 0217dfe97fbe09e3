"""The LightningModule: what happens to one batch, one epoch, one optimizer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, final

import pytorch_lightning as pl
import torch

from tune.data.seeds import seed_device, seed_of
from tune.errors import RunError
from tune.evaluate.metrics import infomax, measure
from tune.evaluate.predict import Predictions
from tune.evaluate.retrieval import retrieval
from tune.evaluate.tasks import TaskAnswers
from tune.losses.interface import SeveralTerms
from tune.models.freeze import apply_phase, phase_at, set_modes
from tune.train.groups import parameter_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from tune.batch import Batch, Output
    from tune.data.tasks.task import TaskLabels
    from tune.models.freeze import FreezePlan, Phase
    from tune.models.network import Network
    from tune.train.frozen import FrozenPart
    from tune.transfer.interface import Sight, Transfer


@final
class Learner(pl.LightningModule):
    """Trains a network by a transfer method under a freeze plan.

    Everything that is drawn at random in a step follows from (seed, epoch, batch), so that a resumed run goes on
    exactly as if nothing had happened.

    Args:
        network: backbone and head.
        loss: (output, batch) → scalar; parameters of its own train with the network.
        transfer: gives the terms of the training loss.
        penalties: terms that look at the weights, by name.
        plan: which layers train, when, and at which share of `lr`.
        phases: the plan, worked out for this network and number of epochs.
        lr: rate of the head, per step of the optimizer.
        weight_decay: for weights with more than one dimension.
        make_optimizer: (groups, lr, weight_decay) → optimizer.
        make_schedule: optimizer → Lightning's schedule dictionary.
        seed: of the training.
        sam: radius of the sharpness-aware step; 0 for plain steps.
        autocast: dtype of an autocast around each forward pass, where Lightning has none for the device.
        frozen: what runs in front of what trains; None: the network takes images.
        tasks: that are learned beside the label, with what the rows say of them.
        hides_labels: whether some labels may not be known to the run, as those of a target.
        known: names of the network's tensors that never change and can be had again; checkpoints leave them out.
    """

    def __init__(
        self,
        network: Network,
        loss: Any,
        transfer: Transfer,
        penalties: Mapping[str, Callable[[nn.Module], Tensor]],
        plan: FreezePlan,
        phases: list[Phase],
        *,
        lr: float,
        weight_decay: float,
        make_optimizer: Callable[..., torch.optim.Optimizer],
        make_schedule: Callable[[torch.optim.Optimizer], dict[str, Any]],
        seed: int,
        sam: float = 0.0,
        autocast: torch.dtype | None = None,
        frozen: FrozenPart | None = None,
        tasks: Mapping[str, TaskLabels] | None = None,
        hides_labels: bool = False,
        known: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.network, self.loss, self.transfer, self.penalties = network, loss, transfer, penalties
        self.plan, self.phases, self.phase = plan, phases, phases[0]
        self.base_lr, self.weight_decay = lr, weight_decay
        self.make_optimizer, self.make_schedule = make_optimizer, make_schedule
        self.seed, self.sam, self.autocast, self.frozen = seed, sam, autocast, frozen
        self.known = {f"network.{name}" for name in known}
        self.strict_loading = False
        self.predictions: dict[str, Predictions] = {}
        self.embeddings: dict[str, Predictions] = {}
        self.answers, self.hides_labels = TaskAnswers(tasks or {}), hides_labels
        self.measures_retrieval = isinstance(loss, SeveralTerms) and loss.shapes_embedding
        self.sums: dict[str, Any] = {}  # of each term times its rows, in this epoch
        self.measured: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.plateau: Any = None
        self.sight: Sight | None = None
        self.enter(self.phase)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W); for graphs and loggers, training uses the network itself."""
        return self.network(images).logits

    def train(self, mode: bool = True) -> Learner:
        """As always, but what is frozen stays in eval mode: statistics move even without a gradient."""
        super().train(mode)
        if mode:
            set_modes(self.network, self.phase, self.plan.norm)
        return self

    def configure_optimizers(self) -> Any:
        """One optimizer over everything that ever trains, from the first step; frozen parameters have no gradient."""
        optimizer = self.make_optimizer(self.groups())
        schedule = self.make_schedule(optimizer)
        if schedule["interval"] == "epoch":  # stepped here, so that a checkpoint at the end of an epoch holds its state
            self.plateau = schedule
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimizer, see `parameter_groups`."""
        owners = {"loss": self.loss, "transfer": self.transfer}
        return parameter_groups(self.network, owners, self.plan, self.phases, self.base_lr, self.weight_decay)

    def on_train_epoch_start(self) -> None:
        """Enter the phase of this epoch."""
        self.enter(phase_at(self.phases, self.current_epoch))
        self.train()
        self.sums = {}
        if self.device.type == "xla":  # torch.manual_seed does not reach its generator
            import torch_xla  # pyright: ignore[reportMissingImports]  # there is no extra for it

            torch_xla.manual_seed(seed_of(self.seed, self.current_epoch) % 2**31)
        if self.sight is not None:
            self.transfer.each_epoch(self.current_epoch, self.sight)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Key every draw of this step."""
        key = seed_of(self.seed, self.current_epoch, batch_idx, self.global_rank)
        seed_device(key, self.device)
        step = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        self.network.set_step(seed_of(self.seed, self.global_rank), step)
        self.is_first_look = True

    def training_step(self, batches: dict[str, Batch], batch_idx: int) -> Tensor:
        for batch in batches.values():
            batch.images = self.entering(batch.images)
        with torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext():
            terms = self.transfer.terms(self.network, batches, self.progress)
        terms |= {name: penalty(self.network) for name, penalty in self.penalties.items()}
        rows = len(next(iter(batches.values())).labels)
        # Lightning's log_dict takes 0.4 ms of a step that takes 3; the sums are logged once, with the validation.
        for name, value in {**terms, "rows": torch.ones(())}.items() if self.is_first_look else ():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach() * rows
        self.is_first_look = False
        return torch.stack(list(terms.values())).sum()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """A plain step, or a sharpness-aware one, with the gradient from ``w + sam * g / |g|``, g = the gradient in w.

        Foret et al. 2021, "Sharpness-Aware Minimization", eq. 2 with p = 2. The same.
        """
        if not self.sam:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        optimizer_closure()
        tensors = [tensor for tensor in self.parameters() if tensor.grad is not None]
        norm = torch.stack([tensor.grad.norm() for tensor in tensors if tensor.grad is not None]).norm()
        starts = [tensor.detach().clone() for tensor in tensors]
        with torch.no_grad():
            for tensor in tensors:
                assert tensor.grad is not None
                tensor += self.sam * tensor.grad / norm.clamp_min(1e-12)

        def from_there() -> Any:
            loss = optimizer_closure()
            with torch.no_grad():
                for tensor, start in zip(tensors, starts, strict=True):
                    tensor.copy_(start)
            return loss

        super().optimizer_step(epoch, batch_idx, optimizer, from_there)

    def validation_step(self, batches: dict[str, Batch], batch_idx: int) -> None:
        self._predict(batches)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"train/{name}": value for name, value in self._means().items()} if self.sums else {})
        self._measure("val")

    def on_test_epoch_end(self) -> None:
        self._measure("test")

    def on_train_epoch_end(self) -> None:
        if self.plateau is not None:
            self.plateau["scheduler"].step(self.trainer.callback_metrics[self.plateau["monitor"]])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: tensor for name, tensor in state.items() if name not in self.known}
        if self.plateau is not None:
            checkpoint["plateau"] = self.plateau["scheduler"].state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.require_all(checkpoint["state_dict"])
        self._loaded_plateau = checkpoint.get("plateau")

    def require_all(self, state: dict[str, Any]) -> None:
        """Make sure that a checkpoint holds every tensor that is not known from elsewhere.

        Raises:
            RunError: if it does not.
        """
        if missing := self.state_dict().keys() - self.known - state.keys():
            raise RunError(f"the checkpoint lacks {', '.join(sorted(missing)[:5])}")

    def on_fit_start(self) -> None:
        self.place_frozen()
        if self.plateau is not None and (state := getattr(self, "_loaded_plateau", None)):
            self.plateau["scheduler"].load_state_dict(state)

    def place_frozen(self) -> None:
        """Put the frozen part of every phase on the learner's device."""
        for encoder in self.frozen.encoders if self.frozen is not None else ():
            if encoder is not None:
                encoder.cut.to(self.device)

    @property
    def progress(self) -> float:
        """Share of the training that is behind us."""
        return self.trainer.global_step / max(1, int(self.trainer.estimated_stepping_batches))

    def enter(self, phase: Phase) -> None:
        """Work in a phase from now on."""
        self.phase = phase
        apply_phase(self.network, phase, self.plan.norm)
        if self.frozen is not None:
            self.frozen.enter(phase)
            encoder = self.frozen.encoder
            self.network.suffix = None if encoder is None else encoder.cut.suffix

    def entering(self, images: Tensor) -> Tensor:
        """What the network takes: the words of its frozen part, or images in the layout that convolutions like best."""
        if images.ndim == 2:
            return images
        if self.frozen is not None and self.frozen.encoder is not None:
            return self.frozen.encoder(images)
        return images if images.device.type == "xla" else images.contiguous(memory_format=torch.channels_last)

    def _means(self) -> dict[str, Tensor]:
        """Mean over all rows of this epoch's training, of each term of the loss."""
        sums = torch.stack([value.to(self.device) for value in self.sums.values()])
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        means = dict(zip(self.sums, sums / sums[list(self.sums).index("rows")], strict=True))
        return {name: mean for name, mean in means.items() if name != "rows"}

    def _predict(self, batches: dict[str, Batch]) -> None:
        for domain, batch in batches.items():
            self.network.domain = domain
            with torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext():
                output: Output = self.network(self.entering(batch.images))
            self._note(domain, batch, output)
            if self.network.align is not None and domain == "target":
                self.network.domain = "unaligned"
                self._note("unaligned", batch, self.network.judge(output.features))
            self.answers.add(batch, output)
        self.network.domain = "target"

    def _note(self, domain: str, batch: Batch, output: Output) -> None:
        is_known, loss = not self.hides_labels or bool((batch.labels >= 0).all()), output.logits.new_zeros(())
        if is_known:
            loss = self.loss(output, batch) * (batch.weights.mean() if self.hides_labels else 1)  # a method may weigh
        self.predictions.setdefault(domain, Predictions()).add(batch.index, batch.labels, output.logits, loss)
        if self.measures_retrieval and is_known:
            kept = self.embeddings.setdefault(domain, Predictions())
            kept.add(batch.index, batch.labels, output.embedding, output.logits.new_zeros(()))

    def _measure(self, part: str) -> None:
        values: dict[str, float] = {}
        said, self.predictions, shown, self.embeddings = self.predictions, {}, self.embeddings, {}
        self.measured = {name: kept for name, kept in self.measured.items() if not name.startswith(part)}
        for domain, predictions in said.items():
            index, labels, probs, loss = predictions.gather()
            is_known, is_finite = bool((labels >= 0).all()), bool(torch.isfinite(probs).all())
            name = f"{part}_{domain}" if domain == "unaligned" or (part, domain) == ("test", "source") else part
            if is_known:
                found = {"loss": loss} | (measure(probs, labels) if is_finite else {})
                if domain in shown:
                    found |= retrieval(shown[domain].gather_logits(), labels)
                values |= {f"{name}/{metric}": value for metric, value in found.items()}
            if self.hides_labels and domain == "target" and is_finite:
                values[f"{name}/infomax"] = infomax(probs)
            if is_known or name not in self.measured:
                self.measured[name] = (index, labels, probs)
        index = self.measured[part][0] if part in self.measured else torch.zeros(0)
        values |= {f"{part}/{metric}": value for metric, value in self.answers.measure(part, index).items()}
        self.log_dict(values, rank_zero_only=False)
