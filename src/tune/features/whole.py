"""What a whole backbone says of some rows: run once, and kept in the cache like the frozen part of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tune.features.extract import Encoder, FrozenRows, ahead
from tune.features.prefix import Uncut, cut_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from tune.data.table import Table
    from tune.data.transforms import InputTransform
    from tune.features.cache import FeatureCache
    from tune.features.extract import Tick
    from tune.models.interface import Backbone

_CHUNK = 32  # images in a forward pass


def features_of(
    backbone: Backbone,
    transform: InputTransform,
    table: Table,
    rows: Sequence[int],
    *,
    about: str,
    computed: torch.dtype | None,
    device: torch.device,
    cache: FeatureCache | None,
    digests: Sequence[str],
    tick: Tick = lambda done, total: None,
) -> Tensor:
    """Features (N, D) float32, on the CPU, of rows of a table as they are.

    Args:
        backbone: on the CPU; is left frozen and in eval mode.
        transform: from the table's images to what the backbone takes.
        table: all rows.
        rows: N of them.
        about: what the backbone is, for `tune cache ls`.
        computed: dtype of an autocast; None: that of the weights.
        device: on which it runs.
        cache: where features are looked for and kept; None: nowhere.
        digests: of the content of each image of the table; not read without a cache.
        tick: told how far it is.
    """
    backbone.eval().requires_grad_(False)

    def load(view: str, row: int) -> Tensor:
        return transform(table.images[row])

    try:
        cut = cut_backbone(backbone, set())
    except Uncut:
        cut = None
    if cut is None:  # as it stands: its norms not folded, and not kept
        return _run(_autocast(backbone.to(device), device, computed), load, rows, tick)
    encoder = Encoder(cut, computed, device)
    if cache is None:
        flat = _run(encoder, load, rows, tick)
    else:
        kept = FrozenRows(encoder, cache, {"input": transform.identity(), "about": about}, {}, digests, load)
        missing = set(kept.missing("", rows))
        if not kept.is_true("", [row for row in rows if row not in missing], seed=0):
            kept.forget("")
        kept.fill("", rows, tick)
        flat = kept.take("", torch.tensor(rows))
    cut.to(torch.device("cpu"))
    return cut.suffix(flat.float())


def _run(
    network: Callable[[Tensor], Tensor], load: Callable[[str, int], Tensor], rows: Sequence[int], tick: Tick
) -> Tensor:
    said, done = [], 0
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    for images in ahead(lambda chunk: torch.stack([load("", row) for row in chunk]), chunks):
        said.append(network(images).float().cpu())
        done += len(images)
        tick(done, len(rows))
    return torch.cat(said)


def _autocast(backbone: Backbone, device: torch.device, dtype: torch.dtype | None) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def run(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return backbone(images.to(device))

    return run
