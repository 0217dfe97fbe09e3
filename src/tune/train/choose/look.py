"""One pass of a frozen backbone over some rows, at several depths, through the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from tune.features.cache import FeatureCache
from tune.features.compiled import choose, estimate
from tune.features.extract import Encoder, FrozenRows, ahead
from tune.features.options import CacheOptions
from tune.features.taps import Taps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tune.data.module import ImageData
    from tune.features.contents import Contents
    from tune.features.prefix import Cut
    from tune.features.transferability import Array
    from tune.models.interface import Backbone
    from tune.train.devices.precision import Precision

_CHUNK = 32


@dataclass(frozen=True)
class Tapped:
    """A backbone that is read at several depths, in the form in which a frozen one runs."""

    taps: Taps
    encoder: Encoder

    def split(self, features: Array) -> dict[str, Array]:
        """What each tap says, (N, D), of rows from `look`."""
        ends = np.cumsum(list(self.taps.widths.values()))[:-1]
        return dict(zip(self.taps.widths, np.split(features, ends, axis=1), strict=True))


def tapped(
    backbone: Backbone, layers: Sequence[str], config: dict[str, Any], precision: Precision, device: str, images: int
) -> Tapped:
    """Cut taps into a backbone.

    Args:
        backbone: left as it is.
        layers: behind which it is read, besides the output.
        config: of the run.
        precision: of the run.
        device: of the run.
        images: that it will be asked for, which decides whether compiling it pays.

    Raises:
        Uncut: if torch.fx cannot trace it.
    """
    taps = Taps(backbone, layers)
    cut = cast("Cut", taps)  # the part of one that an encoder needs
    where = torch.device({"cuda": "cuda", "mps": "mps"}.get(device, "cpu"))
    worth = estimate(cut, images, backbone.input.size, precision.frozen_part)
    compiled = choose(config["compile"], where.type, worth)
    return Tapped(taps, Encoder(cut, precision.frozen_part, where, compiled=compiled))


def look(seen: Tapped, config: dict[str, Any], data: ImageData, contents: Contents, rows: np.ndarray) -> Array:
    """All taps (N, numel) of rows of the table, as they are; kept where the config allows that."""
    options = CacheOptions(**config["cache"])
    if options.mode == "never" or contents.trouble:
        return ask(seen.encoder, data, rows)
    name = config["backbone"].get("name", config["backbone"]["_target_"])
    about = f"{name} behind {', '.join(seen.taps.widths)}"
    key = {"input": data.transform.identity(), "about": about, "taps": list(seen.taps.widths)}
    cache = FeatureCache(contents.folder, options.max_gb)
    return ask_once(FrozenRows(seen.encoder, cache, key, {}, contents.digests(data.table), data.load), rows)


def ask(encoder: Encoder, data: ImageData, rows: np.ndarray) -> Array:
    """What crosses the cut (N, numel) for rows of the table; nothing is kept."""
    chunks = [rows[start : start + _CHUNK].tolist() for start in range(0, len(rows), _CHUNK)]

    def load(some: list[int]) -> torch.Tensor:
        return torch.stack([data.load("", row) for row in some])

    return torch.cat([encoder(images).cpu() for images in ahead(load, chunks)]).double().numpy()


def ask_once(kept: FrozenRows, rows: np.ndarray) -> Array:
    """The same, from the cache as far as it is there and true; what is missing is computed and kept."""
    wanted = rows.tolist()
    missing = set(kept.missing("", wanted))
    if not kept.is_true("", [row for row in wanted if row not in missing], seed=0):
        kept.forget("")
    kept.fill("", wanted)
    return kept.take("", torch.from_numpy(rows)).double().numpy()


def sample(labels: np.ndarray, rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """About `limit` of the rows, ascending, drawn with a seed; each class keeps its share, and one row at least."""
    if len(rows) <= limit:
        return rows
    draw = np.random.default_rng(seed)
    picked = []
    for k in np.unique(labels[rows]):
        own = draw.permutation(rows[labels[rows] == k])
        picked.append(own[: max(1, round(limit * len(own) / len(rows)))])
    return np.sort(np.concatenate(picked))
