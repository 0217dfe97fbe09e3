"""Checks of the rows: images, copies, classes, and whether the labels follow from the images."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from tune.data.images import FORMATS
from tune.features.transferability import neighbours
from tune.talk import counted
from tune.train.doctor.finding import Finding, judged, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tune.train.doctor.case import Case

_HEADERS = 5000
_TINY = 0.25  # of the network's input, in its shorter side: three quarters of what it sees would be made up
_FEW = 0.1  # of all
_RARE = 5
_UNEVEN = 10.0
_ASKED = 400
_SURE = 2.5  # standard errors
_LOST = 0.3  # of 4:3 a quarter


def check_images(case: Case) -> Iterator[Finding]:
    """Images that cannot be read, are much smaller than what the network takes, or are of an odd kind."""
    total = len(case.rows) + len(case.skipped)
    if case.skipped:
        names = listed([f"{name} ({reason})" for name, reason in case.skipped])
        is_accepted = case.config["data"].get("unreadable") == "skip"
        text = f"{len(case.skipped)} of {counted(total, 'image')} cannot be read: {names}"
        if is_accepted:
            yield Finding("images", "WARN", f"{text}; the run leaves them out", "repair or remove them")
        else:
            yield Finding("images", "FAIL", text, "repair or remove them, or data.unreadable=skip")
    modes, sizes = _headers(case)
    if not modes:
        yield Finding(
            "images", "PASS", f"{total:,} images in memory, {np.asarray(case.rows.images[0]).shape[0]} pixels high"
        )
        return
    odd = {mode: names for mode, names in modes.items() if mode not in ("L", "RGB")}
    common = len(odd) == len(modes) == 1  # all of one kind are no accident
    if odd and not common:
        kinds = ", ".join(f"{len(names)} {mode}" for mode, names in odd.items())
        first = next(iter(odd.values()))[0]
        yield Finding("images", "WARN", f"of an odd kind: {kinds} ({first}, …); transparency is laid on white, 16 bits")
    short = [min(size) for size in sizes.values()]
    size = case.run.data.transform.size if case.prepared is not None else (0, 0)
    least = _TINY * min(size)
    if tiny := [name for name, (width, height) in sizes.items() if min(width, height) < least]:
        are = f"{counted(len(tiny), 'image is', 'images are')} under {least:.0f} pixels, the network takes {size[0]}"
        do = f"backbone.input_size={max(32, round(median(short)))}"
        if len(tiny) <= _FEW * len(sizes):
            do = "look at what is in it, or remove it" if len(tiny) == 1 else "look at what is in them, or remove them"
        yield Finding("images", "WARN", f"{are}: {listed(tiny)}", do)
    elif not case.skipped and (not odd or common):
        # Where kinds are mixed, the few of one may be there by mistake.
        kinds = ", ".join(
            f"{len(names):,} {mode}" + (f" ({listed(names)})" if len(names) <= _FEW * len(sizes) else "")
            for mode, names in modes.items()
        )
        of = f", of the first {len(sizes):,} " if len(sizes) < total else "; "
        text = f"{total:,} readable{of}{kinds}; shorter side {min(short)} to {max(short)} pixels"
        yield Finding("images", "PASS", text)


def check_crop(case: Case) -> Iterator[Finding]:
    """What of an image is cut off before the network sees it."""
    _, sizes = _headers(case)
    images = case.rows.images
    if not sizes and isinstance(images, np.ndarray):
        sizes = {"": (images.shape[2], images.shape[1])}
    transform = case.run.data.transform
    if transform.fit != "crop":
        yield Finding("crop", "PASS", f"nothing is cut off: data.fit={transform.fit}")
        return
    aspect = transform.size[1] / transform.size[0]
    kept = [min(aspect / (w / h), (w / h) / aspect) for w, h in sizes.values()]
    lost = 1 - float(np.mean(kept))
    text = f"{100 * lost:.0f} % of an image's area is cut off on average, {100 * (1 - min(kept)):.0f} % at most"
    yield judged("crop", lost <= _LOST, text, "data.fit=pad or data.fit=stretch", otherwise="WARN")


def check_duplicates(case: Case) -> Iterator[Finding]:
    """Images with the same content, in one part and across parts."""
    assert case.contents is not None
    digests = case.contents.digests(case.rows)
    of_part = {int(row): part for part, rows in case.split.items() for row in rows}
    groups: dict[str, list[int]] = defaultdict(list)
    for row in of_part:
        groups[digests[row]].append(row)
    copies = [rows for rows in groups.values() if len(rows) > 1]
    held_out = {"val", "test"}
    across = [rows for rows in copies if len({of_part[row] for row in rows}) > 1]
    leaked = [row for rows in across for row in rows if of_part[row] in held_out]
    contrary = [rows for rows in copies if len({int(case.rows.labels[row]) for row in rows}) > 1]
    within = len(copies) - len(across)
    text = counted(len(across), "image stands in several parts", "images stand in several parts")
    text += f", {within} several times in one" if within else ""
    if leaked:
        names = listed([" = ".join(case.rows.names[row] for row in rows) for rows in across])
        total = sum(part in held_out for part in of_part.values())
        text = f"{text}: {names}; {len(leaked)} of {total} rows that measure the run are not new to it"
    groups_by = [name for name in case.rows.column_names() if name != "label"]
    together = f", or data.split.group=COLUMN where one names what belongs together ({listed(groups_by)})"
    yield judged("duplicates", not leaked, text, f"remove the copies{together if groups_by else ''}")
    if contrary:
        names = listed([" = ".join(case.rows.names[row] for row in rows) for rows in contrary])
        have = counted(len(contrary), "image has a copy with another label", "images have copies with another label")
        yield Finding("duplicates", "WARN", f"{have}: {names}", "see which label is right, and remove the others")


def check_classes(case: Case) -> Iterator[Finding]:
    """How many training rows each class has, and that the labels are those of the head."""
    table, parts = case.rows, case.split
    labelled = table.labelled(parts.train)
    counts = np.bincount(table.labels[labelled], minlength=table.num_classes)
    names = dict(zip(table.classes, counts.tolist(), strict=True))
    each = ", ".join(f"{name} {count:,}" for name, count in list(names.items())[:6])
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    if table.labels.min() < -1 or table.labels.max() >= table.num_classes:
        low, high = int(table.labels.min()), int(table.labels.max())
        text = f"labels go from {low} to {high}, the head has outputs 0 to {table.num_classes - 1}"
        yield Finding("classes", "FAIL", text, "count the classes from 0")
        return
    if not len(labelled):
        yield Finding("classes", "SKIP", "no label is known to the run")
        return
    if absent := [name for name, count in names.items() if not count]:
        text = f"{listed(absent)} has no training row: {each}{more}"
        yield Finding("classes", "FAIL", text, "move rows of it into train, or data.split.stratify=label")
    elif rare := [name for name, count in names.items() if count < _RARE]:
        yield Finding("classes", "WARN", f"{listed(rare)} has under {_RARE} training rows: {each}{more}")
    else:
        uneven = max(counts) / min(counts)
        text = f"training rows: {each}{more}"
        yield judged(
            "classes",
            uneven <= _UNEVEN or case.config["data"].get("sampler") == "balanced",
            text if uneven <= _UNEVEN else f"{text}: the largest has {uneven:.0f} times the smallest",
            "data.sampler=balanced or loss=weighted, and objective=val/balanced_accuracy",
            otherwise="WARN",
        )
    outputs = case.ask(case.batch.images[:2]).logits.shape[1] if case.prepared is not None else table.num_classes
    if outputs != table.num_classes:
        text = f"the head has {outputs} outputs for {table.num_classes} classes"
        yield Finding("classes", "FAIL", text, "give it num_classes of them")


def check_labels(case: Case) -> Iterator[Finding]:
    """Whether images with like features have like labels, more than by chance.

    Half of the rows are asked for the class of their 5 nearest among the other half, and the other way around. By
    chance the share told right is ``Σ p_k q_k``, with p the classes' shares and q those of the answers.
    """
    if not case.run.network.backbone.weights_digest:
        yield Finding("labels", "SKIP", "what random weights see says nothing of labels")
        return
    rows = np.random.default_rng(0).permutation(case.train_rows(_ASKED // 2 if case.quick else _ASKED))
    labels = case.rows.labels[rows]
    if len(rows) < 20 or len(np.unique(labels)) < 2:
        yield Finding("labels", "SKIP", f"{len(rows)} labelled training rows are too few to tell")
        return
    features = torch.cat([told for told, _ in case.told(rows)]).double().numpy()
    half = len(rows) // 2
    said = np.concatenate(
        [
            neighbours(features[half:], labels[half:], features[:half]),
            neighbours(features[:half], labels[:half], features[half:]),
        ]
    )
    right = float((said == labels).mean())
    chance = float(sum((labels == k).mean() * (said == k).mean() for k in np.unique(labels)))
    error = math.sqrt(max(chance * (1 - chance), 1e-6) / len(rows))
    above = (right - chance) / error
    text = f"the nearest of {len(rows)} images tell {100 * right:.0f} % right, {100 * chance:.0f} % by chance"
    do = "look whether labels and images belong together (--picture batch.png)"
    if above <= _SURE:
        text = f"{text}: what the images show says nothing of their labels"
    yield judged("labels", above > _SURE, text, do, otherwise="WARN")


def _headers(case: Case) -> tuple[dict[str, list[str]], dict[str, tuple[int, int]]]:
    """Names of image files by Pillow's mode, and (width, height) of each; of the first files, from their headers."""
    modes: dict[str, list[str]] = defaultdict(list)
    sizes: dict[str, tuple[int, int]] = {}
    images = case.rows.images
    if isinstance(images, np.ndarray):
        return {}, {}
    for name, image in list(zip(case.rows.names, images, strict=True))[:_HEADERS]:
        if isinstance(image, Path):
            with image.open("rb") as file, Image.open(file, formats=FORMATS) as header:
                modes[header.mode].append(name)
                sizes[name] = header.size
        else:
            modes[{2: "L"}.get(image.ndim, "RGB")].append(name)
            sizes[name] = (image.shape[1], image.shape[0])
    counted = Counter({mode: len(names) for mode, names in modes.items()})
    return {mode: modes[mode] for mode, _ in counted.most_common()}, sizes
