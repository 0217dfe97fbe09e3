"""Optimizers, as functions of groups of parameters.

Rate and weight decay stand in the groups (`lr`, `regularize.weight_decay`), so no function here has a key of that
name; the two arguments are torch's defaults for a group without its own. On a CPU the fused form is taken where torch
has one (a quarter of the time of a loop over tensors), elsewhere torch's own choice (grouped on a GPU).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import torch

from tune.errors import ConfigError, Problem
from tune.ranges import Range

if TYPE_CHECKING:
    from torch.optim import Optimizer

Groups = list[dict[str, Any]]


def sgd(
    params: Groups,
    lr: float,
    weight_decay: float,
    momentum: Annotated[float, Range("[0, 1)")] = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent: ``v = momentum * v + g``, ``w -= lr * v`` (Nesterov: ``g + momentum * v``).

    Weight decay is added to the gradient g.

    Raises:
        ConfigError: if `nesterov` has no momentum to act on.
    """
    if nesterov and not momentum:
        raise ConfigError("optimizer.nesterov: has no effect without optimizer.momentum (0.9 is usual).")
    return _clippable(
        torch.optim.SGD(
            params, lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, fused=_fused(params)
        )
    )


def adagrad(
    params: Groups,
    lr: float,
    weight_decay: float,
    lr_decay: Annotated[float, Range("[0, inf)")] = 0.0,
    initial_accumulator_value: Annotated[float, Range("[0, inf)")] = 0.0,
    eps: Annotated[float, Range("[0, inf)")] = 1e-10,
) -> Optimizer:
    """Adagrad: ``w -= lr * g / (sqrt(sum of g^2) + eps)``. Weight decay is added to the gradient g.

    Args:
        params: groups.
        lr: of a group without its own.
        weight_decay: of a group without its own.
        lr_decay: the rate in step t, from 0, is divided by ``1 + t * lr_decay``.
        initial_accumulator_value: what the sum of squares starts from.
        eps: keeps the quotient finite.
    """
    return _clippable(
        torch.optim.Adagrad(
            params,
            lr,
            weight_decay=weight_decay,
            lr_decay=lr_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            fused=_fused(params),
        )
    )


def rmsprop(
    params: Groups,
    lr: float,
    weight_decay: float,
    alpha: Annotated[float, Range("[0, 1)")] = 0.99,
    eps: Annotated[float, Range("[0, inf)")] = 1e-8,
    momentum: Annotated[float, Range("[0, 1)")] = 0.0,
    centered: bool = False,
) -> Optimizer:
    """RMSProp: ``s = alpha * s + (1 - alpha) * g^2``, ``w -= lr * g / (sqrt(s) + eps)``.

    Weight decay is added to the gradient g. `centered` takes the running mean of g, squared, off s.
    """
    return torch.optim.RMSprop(
        params, lr, weight_decay=weight_decay, alpha=alpha, eps=eps, momentum=momentum, centered=centered
    )


def adam(
    params: Groups,
    lr: float,
    weight_decay: float,
    betas: list[Annotated[float, Range("[0, 1)")]],
    eps: Annotated[float, Range("[0, inf)")] = 1e-8,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam: a running mean of gradients over the root of a running mean of their squares, both unbiased.

    Weight decay is added to the gradient, and so is rescaled with it; `optimizer=adamw` keeps it apart.
    """
    return _clippable(
        torch.optim.Adam(
            params, lr, weight_decay=weight_decay, betas=_pair(betas), eps=eps, amsgrad=amsgrad, fused=_fused(params)
        )
    )


def adamw(
    params: Groups,
    lr: float,
    weight_decay: float,
    betas: list[Annotated[float, Range("[0, 1)")]],
    eps: Annotated[float, Range("[0, inf)")] = 1e-8,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay: ``w *= 1 - lr * weight_decay`` before Adam's step."""
    return _clippable(
        torch.optim.AdamW(
            params, lr, weight_decay=weight_decay, betas=_pair(betas), eps=eps, amsgrad=amsgrad, fused=_fused(params)
        )
    )


def by_timm_name(
    params: Groups,
    lr: float,
    weight_decay: float,
    name: str,
    momentum: Annotated[float, Range("[0, 1)")] | None = None,
    betas: list[Annotated[float, Range("[0, 1)")]] | None = None,
    eps: Annotated[float, Range("[0, inf)")] | None = None,
) -> Optimizer:
    """An optimizer of timm by its name; what is not given keeps timm's default (momentum 0.9, sgd is Nesterov's).

    Raises:
        ConfigError: if timm has none of this name, it needs more than a plain step, or it has no such key.
    """
    from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers  # 3 s that others need not pay

    known = [str(known) for known in list_optimizers()]
    if name not in known:
        near = difflib.get_close_matches(name, known, 3) or known
        raise ConfigError(f"optimizer.name: timm has no optimizer called {name!r}. Nearest: {', '.join(near)}.")
    info = get_optimizer_info(name)
    if reason := _needs_more(name, info):
        raise ConfigError(f"optimizer.name: {name} {reason}.")
    given: dict[str, Any] = {"momentum": momentum, "betas": betas and tuple(betas), "eps": eps}
    takes = {"momentum": info.has_momentum, "betas": info.has_betas, "eps": info.has_eps}
    problems = [
        Problem(f"optimizer.{key}", f"timm's {name} has no such key")
        for key, value in given.items()
        if value is not None and not takes[key]
    ]
    if betas is not None and info.has_betas and len(betas) != info.num_betas:
        problems.append(Problem("optimizer.betas", f"{name} takes {info.num_betas} numbers, not {len(betas)}"))
    if problems:
        raise ConfigError(*problems)
    keys = {key: value for key, value in given.items() if value is not None}
    return create_optimizer_v2(params, opt=name, lr=lr, weight_decay=weight_decay, **keys)


def _fused(params: Groups) -> bool | None:
    """Whether to take torch's fused form; None leaves the choice to torch.

    On a GPU it would forbid clipping gradients in 16-mixed, and grouped loops cost little there.
    """
    on_cpu = all(tensor.device.type == "cpu" for group in params for tensor in group["params"])
    return True if on_cpu else None


def _clippable(optimizer: Optimizer) -> Optimizer:
    """The same, without its claim to scale gradients itself, on which Lightning refuses to clip them."""
    optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]
    return optimizer


def _needs_more(name: str, info: Any) -> str:
    """Why an optimizer cannot be used with plain steps and exact checkpoints; empty if it can."""
    if info.second_order:
        return "needs second derivatives (a backward pass with create_graph), not a plain step"
    if isinstance(info.opt_class, str):  # the path of a class in a package that timm does not require
        package = info.opt_class.partition(".")[0]
        return f"needs the package {package} and a CUDA device; try the name without its prefix"
    if name.startswith("kron"):  # bits differ after load_state_dict, with timm 1.0.31
        return "goes on differently after a checkpoint, and a resumed run must be exact"
    return ""


def _pair(betas: list[float]) -> tuple[float, float]:
    if len(betas) != 2:
        raise ConfigError(f"optimizer.betas: takes 2 numbers, not {len(betas)}.")
    return betas[0], betas[1]


def lbfgs(
    params: Groups,
    lr: float,
    weight_decay: float,
    max_iter: Annotated[int, Range("[1, inf)")] = 20,
    history: Annotated[int, Range("[1, inf)")] = 10,
) -> Optimizer:
    """Limited-memory BFGS with a line search (strong Wolfe): follows curvature, for a few weights and all rows at once.

    Each step makes up to `max_iter` moves, each with one or more looks at the whole batch. `lr` is the length that the
    line search starts from; 1 is usual. Nocedal and Wright 2006, "Numerical Optimization", algorithm 7.5; the code is
    torch's.

    Args:
        params: groups; their rates must be equal.
        lr: of a group without its own.
        weight_decay: must be 0.
        max_iter: moves per step.
        history: earlier moves from which the curvature is estimated.

    Raises:
        ConfigError: if rates differ, or weight decay is asked for.
    """
    if weight_decay:
        raise ConfigError(Problem("regularize.weight_decay", "has no place in lbfgs; regularize.l2 is the same here"))
    if len({group["lr"] for group in params}) > 1:
        raise ConfigError(Problem("optimizer", "lbfgs has one rate for all: freeze.backbone_lr=1 freeze.decay=1"))
    tensors = [tensor for group in params for tensor in group["params"]]
    names = [group["name"] for group in params]  # a loss with parameters of its own stands behind the head
    group = {"params": tensors, "lr": params[-1]["lr"], "name": "head" if "head" in names else names[-1]}
    # A line search takes up to 25 looks. By default torch allows 5/4 per move, and one that is cut short may end where
    # it began, in this step and all that follow.
    looks = 25 * max_iter + 1
    return torch.optim.LBFGS(
        [group], max_iter=max_iter, max_eval=looks, history_size=history, line_search_fn="strong_wolfe"
    )
