"""The first screen of a run: what will happen, in at most twelve lines, before anything does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from tune.data.loading.orders import rows_by_domain
from tune.data.splits import prevalence
from tune.data.tasks.columns import labelled
from tune.models.freeze import audit
from tune.models.interface import FittedHead
from tune.run_dir import run_id, shown
from tune.talk import counted

if TYPE_CHECKING:
    from pathlib import Path

    from tune.data.splits import Parts
    from tune.data.table import Table
    from tune.train.prepare import Prepared

ROWS_OF_AUDIT = 5


def first_screen(prepared: Prepared, name: str, choices: dict[str, str]) -> list[str]:
    """Lines that say which network learns what from which rows, on which device.

    Args:
        prepared: the run.
        name: of the run.
        choices: option chosen in each group.
    """
    config, parts, backbone = prepared.config, prepared.parts, prepared.network.backbone
    digest = f" ({backbone.weights_digest[:8]})" if backbone.weights_digest else ""
    chosen = ", ".join(choices.get(group, "?") for group in ("optimizer", "scheduler", "loss"))
    lines = [
        f"{name}   {choices.get('backbone', '')}, {backbone.weights_source}{digest}   seed {config['seed']}",
        f"data      {choices.get('data', '')}  {_parts(prepared)}   split {parts.fingerprint[:4]} ({parts.how})",
    ]
    lines += _tasks(prepared)
    if prepared.skipped:
        lines.append(f"skipped   {len(prepared.skipped)} unreadable images, listed in run.json")
    lines += [f"note      {note}" for note in prepared.table.notes[:2]]
    if choice := prepared.choice:
        lines.append(f"freeze    auto → {choice.option}: {choice.reason}")
        lines += [f"          {line}" for line in (choice.numbers, _freeze_summary(prepared)) if line]
    else:
        lines.append(f"freeze    {choices.get('freeze', '')}  {_freeze_summary(prepared)}")
    if isinstance(head := prepared.network.head, FittedHead):
        lines.append(f"fit       {head.about}, once; lr, epochs, optimizer, regularize … have no effect")
    else:
        if rate := prepared.rate:
            lines.append(f"lr        auto → {rate.lr:g}: {rate.reason}")
        epochs = f"{config['epochs']} epochs" + (f" of {config['epoch_steps']} steps" if config["epoch_steps"] else "")
        lines.append(f"train     {epochs}, batch_size {config['batch_size']}, lr {config['lr']:g}; {chosen}")
    lines.append(f"augment   {_strengths(config['augment'])}   regularize  {_strengths(config['regularize'])}")
    lines.append(f"device    {_device(prepared)}; {prepared.precision.reason}")
    if cache := prepared.frozen.describe():
        lines.append(f"cache     {cache}")
    lines += [f"compile   {note}" for note in dict.fromkeys(prepared.frozen.compile_notes)]
    return lines


def where(run_dir: Path) -> str:
    """The line that names the run folder."""
    return f"run       {shown(run_dir)}        stop with Ctrl-C, continue with: tune resume {run_id(run_dir)}"


def audit_table(prepared: Prepared) -> list[str]:
    """The freeze audit, one line per layer."""
    return [_audit_line(*row) for row in _audit_rows(prepared)]


def audit_parts(prepared: Prepared) -> list[dict[str, Any]]:
    """The freeze audit as run.json has it: neighbours that are treated alike, from input to output.

    Each has `layers`, `number` of them, `parameters`, `trained` (frozen, fitted, from epoch N), `lr_factor` (of the
    rate of the layer to that of the run) and `norm`.
    """
    rate = prepared.learner.base_lr
    return [
        {
            "layers": layers,
            "number": number,
            "parameters": count,
            "trained": trained,
            "lr_factor": round(own / rate, 9),
            "norm": norm,
        }
        for layers, number, count, trained, own, _, norm in _audit_together(prepared)
    ]


def audit_summary(prepared: Prepared) -> list[str]:
    """The freeze audit with neighbours that are treated alike drawn together, short enough for a screen."""
    rows = [[layers, *row] for layers, _, *row in _audit_together(prepared)]
    lines = [_audit_line(*row) for row in rows]
    if len(lines) > ROWS_OF_AUDIT:
        lines = [
            *lines[: ROWS_OF_AUDIT - 2],
            f"          … {len(lines) - ROWS_OF_AUDIT + 1} more in run.log",
            lines[-1],
        ]
    return lines


def _strengths(node: dict[str, Any]) -> str:
    """What is on in a node whose strengths are all off by default; an option's name would hide what was changed."""
    on = [key if value is True else f"{key} {value}" for key, value in node.items() if key != "_target_" and value]
    return ", ".join(on) or "none"


def _parts(prepared: Prepared) -> str:
    """Size of each part, and how often the positive class, or each of a few, occurs in it."""
    if prepared.table.domain is not None:
        return _domains(prepared.table, prepared.parts)
    table, parts = prepared.table, prevalence(prepared.table, prepared.parts)
    sizes = " / ".join(f"{part.num_rows} {part.part}" for part in parts if part.num_rows)
    shown_classes = [1] if table.num_classes == 2 else range(min(table.num_classes, 4))
    shares = [
        f"{table.classes[k]} " + " / ".join(f"{100 * part.shares[k]:.1f}" for part in parts if part.num_rows) + " %"
        for k in shown_classes
    ]
    more = f", {table.num_classes - 4} more classes" if table.num_classes > 4 else ""
    about = f"  {table.about}" if table.about else ""
    return f"{sizes}{about}   {', '.join(shares)}{more}"


def _domains(table: Table, parts: Parts) -> str:
    """Size of each part of both domains; how often a class occurs in the target is not for the run to know."""
    rows = {part: rows_by_domain(table, some) for part, some in parts.items()}
    each = []
    for domain in ("source", "target"):
        sizes = [f"{len(some[domain])} {part}" for part, some in rows.items() if domain in some]
        each += [f"{domain} {' / '.join(sizes)}"] if sizes else []
    few = len(table.labelled(rows["train"]["target"]))
    known = f"{few} labels of the target are known" if few else "no label of the target is known"
    about = f"  {table.about}" if table.about else ""
    return f"{', '.join(each)}{about}   {known}"


def _tasks(prepared: Prepared) -> list[str]:
    """One line for what is learned beside the label."""
    counts = labelled(prepared.table, prepared.parts)
    each = []
    for name, labels in prepared.table.tasks.items():
        several = f" of {len(labels.task.classes)}" if labels.task.classes else ""
        each.append(f"{name} ({labels.task.kind}{several}; {' / '.join(map(str, counts[name].values()))} labelled)")
    return [f"tasks     {', '.join(each)}"] if each else []


def _freeze_summary(prepared: Prepared) -> str:
    rows = audit(prepared.network, prepared.plan, prepared.phases)
    frozen = sum(row.parameters for row in rows if row.trained_from is None)
    trained = sum(row.parameters for row in rows if row.trained_from is not None)
    later = {row.trained_from for row in rows if row.trained_from}
    phases = f" ({len(later) + 1} phases)" if later else ""
    still = f"{frozen:,} frozen ({prepared.plan.norm} norms)" if frozen or later else "nothing frozen"
    return f"{still} | {trained:,} trainable{phases}"


def _audit_rows(prepared: Prepared) -> list[tuple[str, int, str, float, float, str]]:
    learner = prepared.learner
    rates: dict[str, tuple[float, float]] = {}
    for group in learner.groups():
        rate, decay = rates.get(group["name"], (0.0, 0.0))
        rates[group["name"]] = max(rate, group["lr"]), max(decay, group["weight_decay"])
    rows = []
    for row in audit(prepared.network, prepared.plan, prepared.phases):
        trained = "frozen" if row.trained_from is None else f"from epoch {row.trained_from + 1}"
        if row.layer == "head" and isinstance(prepared.network.head, FittedHead):
            trained = "fitted"
        rows.append((row.layer, row.parameters, trained, *rates.get(row.layer, (0.0, 0.0)), row.norm))
    owners: dict[str, Any] = {"loss": learner.loss, "transfer": learner.transfer}
    for name, owner in owners.items():
        if name in rates:
            count = sum(parameter.numel() for parameter in owner.parameters())
            rows.append((name, count, "from epoch 1", *rates[name], "none"))
    return rows


def _audit_together(prepared: Prepared) -> list[list[Any]]:
    """Layers, their number, and what `_audit_rows` says of them, neighbours that are treated alike as one."""
    rows: list[list[Any]] = []
    for layer, count, *treated in _audit_rows(prepared):
        if rows and rows[-1][3:] == treated:
            rows[-1][0] = f"{rows[-1][0].split(' … ')[0]} … {layer}"
            rows[-1][1] += 1
            rows[-1][2] += count
        else:
            rows.append([layer, 1, count, *treated])
    return rows


def _audit_line(layer: str, count: int, trained: str, rate: float, decay: float, norm: str) -> str:
    learning = f"lr {rate:<8.2g} weight decay {decay:<7g}" if rate else " " * 32
    return f"  {layer:<36} {count:>11,}  {trained:<14} {learning} norm {norm}"


def _device(prepared: Prepared) -> str:
    world = prepared.world
    if prepared.device == "cpu":
        processes = f"{world} processes of " if world > 1 else ""
        return f"cpu, {processes}{counted(torch.get_num_threads(), 'thread')} of {counted(os.cpu_count() or 1, 'core')}"
    name = torch.cuda.get_device_name() if prepared.device == "cuda" else prepared.device
    return f"{world} × {name}" if world > 1 else name
