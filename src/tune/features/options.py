"""The keys of `cache`. Torch-free: the checks read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tune.ranges import Range


@dataclass(frozen=True)
class CacheOptions:
    """What a frozen network says of an image is kept, so that it is asked once.

    Args:
        mode: ``auto`` keeps it where that can be done and says so where not; ``never`` asks again in each epoch, the
            numbers are the same; ``require`` refuses a run that cannot use the cache.
        dir: folder of the cache; by default `$XDG_CACHE_HOME/tune` or `~/.cache/tune`.
        max_gb: what the whole cache may take, 10^9 bytes each; what was not used for longest goes first.
        views: ways in which a training image is changed at random; pass e over the rows uses number e mod views, cached
            or not. By default every pass has its own.
    """

    mode: Literal["auto", "never", "require"] = "auto"
    dir: str | None = None
    max_gb: Annotated[float, Range("(0, inf)")] = 20.0
    views: Annotated[int, Range("[1, inf)")] | None = None
