"""Checks of the network and its loss before anything trains."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from tune.batch import Batch, Output
from tune.losses.interface import loss_terms
from tune.losses.penalties import penalties_of
from tune.train.doctor.finding import Finding, judged
from tune.train.probe.steps import untouched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from tune.train.doctor.case import Case

_SURE = 30.0  # logit of the one class that is sure: the others have a share of e^-30
_NOTHING = 1e-6
_EVEN_WARN, _EVEN_FAIL = 2.0, 4.0
_NORMAL_MEAN, _NORMAL_STD = 3.0, (0.1, 4.0)
_DROWNED = 1.0


def check_pixels(case: Case) -> Iterator[Finding]:
    """The images' normalisation against what the backbone was trained with."""
    backbone, transform = case.run.network.backbone, case.run.data.transform
    given = [tuple(round(float(value), 4) for value in values) for values in (transform.mean, transform.std)]
    for name, trained in _trained_with(backbone):
        if any(
            abs(a - b) > 1e-3
            for ours, theirs in zip(given, trained, strict=True)
            for a, b in zip(ours, theirs, strict=True)
        ):
            text = f"mean {given[0]} and sd {given[1]}, but {name} was trained with {trained[0]} and {trained[1]}"
            yield Finding("pixels", "FAIL", text, "let the backbone's `input` say what its weights were trained with")
            return
    images = case.batch.images
    mean, std = float(images.mean()), float(images.std(dim=(0, 2, 3)).mean())
    is_sound = abs(mean) <= _NORMAL_MEAN and _NORMAL_STD[0] <= std <= _NORMAL_STD[1]
    text = f"normalised by mean {given[0]} and sd {given[1]}: mean {mean:.2f}, sd {std:.2f} in {len(images)} images"
    yield judged("pixels", is_sound, text, "mean and std of `input` are for pixels of 0 to 1")


def check_loss(case: Case) -> Iterator[Finding]:
    """Whether the loss looks at the logits, rewards right answers, and is near 0 where all are right and sure."""
    batch, output = _drawn(case)
    sure = _SURE * batch.label_probs
    values = {}
    for name, logits in {"right": sure, "even": torch.zeros_like(sure), "wrong": sure.roll(1, dims=1)}.items():
        with torch.no_grad():
            values[name] = float(_logit_term(case.loss, replace(output, logits=logits), batch))
    shown = {name: 0.0 if abs(value) < _NOTHING else value for name, value in values.items()}
    text = ", ".join(f"{value:.3g} for {name} answers" for name, value in shown.items())
    if not values["right"] < values["even"] < values["wrong"]:
        read = [name for name in ("features", "embedding") if _reads(case.loss, output, batch, name)]
        why = f"it looks at {' and '.join(read)}, not at the logits" if read else "it does not reward right answers"
        yield Finding("loss", "FAIL", f"{text}: {why}", "compute it of output.logits and batch.label_probs")
    elif values["right"] > 0.05 * values["even"]:
        text = f"{text}: it stays far from 0 even where all is right, as where a softmax is taken twice"
        yield Finding("loss", "FAIL", text, "give the loss logits, not probabilities")
    else:
        yield Finding("loss", "PASS", text)


def check_start(case: Case) -> Iterator[Finding]:
    """The loss of the first batch against that of an even guess, and whether the head gives logits."""
    output = case.ask(case.batch.images)
    logits = output.logits.float().cpu()
    if not bool(torch.isfinite(logits).all()):
        yield Finding("start", "FAIL", "the network's first answers are not finite", "init=he, or a smaller init.std")
        return
    if logits.shape[1] > 1 and bool(((logits >= 0) & (logits <= 1)).all()):
        sums = logits.sum(dim=1)
        if bool((sums - 1).abs().max() < 1e-4):
            text = "the head's outputs are probabilities: they sum to 1, and the loss takes a softmax of them again"
            yield Finding("start", "FAIL", text, "leave the softmax out of the head: it gives logits")
            return
    moved = Output(output.features.cpu(), output.embedding.cpu(), logits, tasks={})
    with torch.no_grad():
        begun, even = (
            float(_logit_term(case.loss, replace(moved, logits=each), case.batch))
            for each in (logits, torch.zeros_like(logits))
        )
    ratio = begun / max(even, 1e-12)
    guess = f"{even:.3g} of an even guess" + (
        f" (ln {logits.shape[1]})" if math.isclose(even, math.log(logits.shape[1]), rel_tol=1e-3) else ""
    )
    text = f"loss {begun:.3g} against {guess}"
    status = "FAIL" if ratio > _EVEN_FAIL else "WARN"
    yield judged(
        "start",
        ratio <= _EVEN_WARN,
        text,
        "init=he or init.last=zeros: the first answers are sure and wrong",
        otherwise=status,
    )


def check_inputs(case: Case) -> Iterator[Finding]:
    """Whether what the network says depends on the image."""
    features = case.ask(case.batch.images).features.float().cpu()
    size = float(features.square().mean().sqrt())
    spread = float((features - features.mean(dim=0)).square().mean().sqrt())
    text = f"features differ between images by {100 * spread / max(size, 1e-30):.2g} % of their size"
    yield judged(
        "inputs",
        spread > 1e-4 * size,
        f"{text}" if spread > 1e-4 * size else f"{text}: every image looks the same",
        "look at `units` below, at init and at the pixels",
    )


def check_leak(case: Case) -> Iterator[Finding]:
    """Whether an image's answer depends on the others of its batch.

    Norms over the batch mix it in training, as they should; without one nothing may.
    """
    images = case.batch.images
    changed = images.clone()
    changed[0] = -images[1]
    modes = [False]
    if not any(isinstance(module, _BatchNorm) for module in case.run.network.modules()):
        modes.append(True)
    for training in modes:
        one, other = (case.ask(each, training=training).logits.float().cpu()[1:] for each in (images, changed))
        difference = float((one - other).abs().max())
        scale = float(one.abs().max())
        if difference > 1e-3 * scale + 1e-6:
            when = "in training" if training else "in eval mode"
            text = f"another first image moves the logits of the others by {difference:.2g} {when}"
            yield Finding("leak", "FAIL", text, "let no layer look across the rows of a batch (dimension 0)")
            return
    yield Finding("leak", "PASS", "no image's answer depends on the others of its batch")


def check_terms(case: Case) -> Iterator[Finding]:
    """Size of each penalty against the loss, by value and by gradient; twice the strength must cost more."""
    run, names = case.run, ("l1", "l2", "l2_sp")
    strengths = {name: float(getattr(run.regularize, name)) for name in names}
    if not any(strengths.values()):
        yield Finding("terms", "PASS", "the loss has no penalty beside it")
        return
    network, learner = run.network, run.learner
    with untouched(run):
        learner.enter(learner.phases[-1])
        for parameter in network.backbone.parameters():  # so that what stays near its start is not there yet
            if parameter.requires_grad:
                parameter.data.mul_(1.001)
        batch = case.batch
        output = network(learner.entering(batch.images))
        data = _logit_term(case.loss, output, batch)
        of_data = _gradient_norm(data, network)
        trains = any(phase.trained - {"head"} for phase in learner.phases)
        for name, strength in strengths.items():
            if not strength:
                continue
            once, twice = (
                penalties_of(
                    **dict.fromkeys(names, 0.0) | {name: factor * strength}, network=network, backbone_trains=trains
                )[name]
                for factor in (1, 2)
            )
            if name == "l2_sp":
                start = run.learner.penalties[name].start  # type: ignore[attr-defined]  # of L2SP
                once.start = twice.start = start  # type: ignore[attr-defined]
            value, more = once(network), float(twice(network).detach())
            pull = _gradient_norm(value, network) / max(of_data, 1e-30)
            cost, of_loss = float(value.detach()), float(data.detach())
            text = f"{name} {cost:.3g} beside a loss of {of_loss:.3g}; its gradient is {pull:.2g} times the loss's"
            if not more > cost:
                yield Finding("terms", "FAIL", f"{text}; twice the strength costs no more", f"regularize.{name}=0")
                continue
            do = f"regularize.{name}={strength / (10 ** math.ceil(math.log10(max(pull, 1.01)))):.1g}"
            text = text if pull <= _DROWNED else f"{text}: it drowns the loss"
            yield judged("terms", pull <= _DROWNED, text, do)


def check_gradients(case: Case) -> Iterator[Finding]:
    """Gradients of the loss, of the head and of the user's own layers against finite differences, in float64.

    Along random directions (`torch.autograd.gradcheck`, fast mode).
    """
    batch, output = _drawn(case)
    loss = _in_float64(case.loss)

    def of_loss(logits: Tensor, embedding: Tensor, features: Tensor) -> Tensor:
        return loss(Output(features, embedding, logits), batch)

    taken = [output.logits, output.embedding, output.features]
    yield from _compared("gradcheck", f"loss {type(case.loss).__name__}", of_loss, taken)
    network = copy.deepcopy(case.run.network).cpu().double().eval()
    network.suffix = None
    modules: list[tuple[str, nn.Module, Tensor]] = [("head", network.head, output.features[:4])]
    if _is_own(network.backbone):
        modules.append(("backbone", network.backbone, case.batch.images[:2].double()))
    for name, module, entering in modules:
        names = [each for each, p in module.named_parameters() if p.numel()]

        def call(*given: Tensor, module: nn.Module = module, names: list[str] = names) -> Any:
            said = torch.func.functional_call(module, dict(zip(names, given[1:], strict=True)), (given[0],))
            return said[1] if isinstance(said, tuple) else said

        if names:
            weights = [p.detach() for _, p in module.named_parameters() if p.numel()]
            yield from _compared("gradcheck", f"{name} {type(module).__name__}", call, [entering, *weights])


def _compared(check: str, what: str, call: Any, inputs: list[Tensor]) -> Iterator[Finding]:
    inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if call(*inputs).dtype != torch.float64:
            yield Finding(check, "SKIP", f"{what} computes in {call(*inputs).dtype}, too coarse for differences")
            return
        try:
            torch.autograd.gradcheck(call, inputs, eps=1e-6, atol=1e-5, rtol=1e-3, fast_mode=True)
        except RuntimeError as error:  # GradcheckError is one
            first = next((line for line in str(error).splitlines() if line.strip()), "")
            text = f"the gradient of {what} is not that of its value: {first[:100]}"
            yield Finding(check, "FAIL", text, "repair its backward")
            return
    yield Finding(check, "PASS", f"the gradient of {what} is that of its value")


def _drawn(case: Case) -> tuple[Batch, Output]:
    """A batch in float64 with two rows of each class, and a network's output for it, drawn at random."""
    classes = case.rows.num_classes
    labels = torch.arange(min(classes, 16)).repeat_interleave(max(2, getattr(case.loss, "rows_per_class", 0)))
    draw = torch.Generator().manual_seed(0)
    network, rows = case.run.network, len(labels)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    output = Output(
        normal(rows, network.backbone.feature_dim), normal(rows, network.embedding_dim), normal(rows, classes)
    )
    probs = F.one_hot(labels, classes).double()
    return Batch(torch.zeros(rows, 1), labels, probs, torch.ones(rows, dtype=torch.float64), torch.arange(rows)), output


def _logit_term(loss: Any, output: Output, batch: Batch) -> Tensor:
    getattr(loss, "eval", lambda: None)()  # as a module it may have a mode
    return loss_terms(loss, output, batch)["loss"]


def _reads(loss: Any, output: Output, batch: Batch, name: str) -> bool:
    asked = getattr(output, name).clone().requires_grad_()
    value = loss(replace(output, **{name: asked}), batch)
    if not value.requires_grad:
        return False
    (found,) = torch.autograd.grad(value, asked, allow_unused=True)
    return found is not None and bool(found.any())


def _gradient_norm(value: Tensor, network: nn.Module) -> float:
    trained = [p for p in network.parameters() if p.requires_grad]
    found = torch.autograd.grad(value, trained, retain_graph=True, allow_unused=True)
    return float(torch.stack([grad.norm() for grad in found if grad is not None]).norm())


def _in_float64(loss: Any) -> Any:
    copied = copy.deepcopy(loss)
    return copied.double() if isinstance(copied, nn.Module) else copied


def _is_own(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] not in ("torch", "timm", "torchvision", "tune")


def _trained_with(backbone: nn.Module) -> Iterator[tuple[str, list[tuple[float, ...]]]]:
    """Mean and sd that timm notes with a network's weights."""
    for module in backbone.modules():
        cfg = getattr(module, "pretrained_cfg", None)
        if isinstance(cfg, dict) and "mean" in cfg and getattr(backbone, "weights_digest", ""):
            yield str(cfg.get("architecture", type(module).__name__)), [tuple(cfg["mean"]), tuple(cfg["std"])]
