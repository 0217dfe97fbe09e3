"""The only code that runs a frozen network over data."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import time
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from tune import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from tune.features.cache import FeatureCache, Rows, Shelf
    from tune.features.prefix import Cut

    Tick = Callable[[int, int], None]
    """Told (rows done, rows to do)."""

_CHUNK = 32  # images in a forward pass
_ROWS = 16  # a batch that is no multiple of this takes another way through a CPU's matrix products, 1e-6 apart in fp32
_SHARD = 16 << 20  # bytes after which a shard is written: what a kill may cost; it is held four times
_CHECKED = 8  # rows of a cache that are computed again before it is believed
T = TypeVar("T")
R = TypeVar("R")


class Encoder:
    """The frozen part of a backbone in the form in which it runs.

    Args:
        cut: the backbone in two parts.
        autocast: dtype in which the prefix computes; None: that of its weights.
        device: on which it runs.
        compiled: whether it is compiled first, when it is called for the first time.
    """

    def __init__(self, cut: Cut, autocast: torch.dtype | None, device: torch.device, *, compiled: bool = False) -> None:
        self.cut, self.autocast, self.device = cut, autocast, device
        self.dtype = autocast or torch.float32
        self.compiled: Any = None
        if compiled:  # in one process: a trial of a sweep is forked, and its pool of compilers would not be
            options = {"freezing": True, "compile_threads": 1}
            self.compiled = torch.compile(cut.encode, dynamic=False, options=options)
        cut.prefix.to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """What crosses the cut, (B, N), of images (B, C, H, W); the same in a batch of any size."""
        if self.compiled is None:
            return self._run(self.cut.encode, images, _ROWS)
        return torch.cat([self._run(self.compiled, some, _CHUNK) for some in images.split(_CHUNK)])

    def plain(self, images: Tensor) -> Tensor:
        """The same, not compiled: equal but for rounding, and without the wait."""
        return self._run(self.cut.encode, images, _ROWS)

    @torch.no_grad()
    def _run(self, encode: Callable[[Tensor], Tensor], images: Tensor, multiple: int) -> Tensor:
        rows = len(images)
        if empty := -rows % multiple:
            images = torch.cat([images, images.new_zeros(empty, *images.shape[1:])])
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return encode(images)[:rows].to(self.dtype)

    def identity(self) -> dict[str, str]:
        """All that decides the numbers beside the images: weights, graph, executed form, device, versions."""
        prefix = self.cut.prefix
        digest = hashlib.sha256(f"{prefix.code}\n{prefix!r}\n{self.cut.entries}".encode())
        for name, tensor in prefix.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        kind = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else platform.machine()
        if self.device.type == "cpu":
            kind += f" {torch.backends.cpu.get_cpu_capability()}"
        return {
            "prefix": digest.hexdigest(),
            "computed": f"{self.autocast or 'weights'}, folded {self.cut.folded}"
            + (", compiled" if self.compiled is not None else ""),
            "device": f"{self.device.type} {kind}",
            "versions": " ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "Pillow")),
            "tune": __version__,
        }


class FrozenRows:
    """What crosses the cut for the rows of a table, in several views: from the cache, or computed and kept there.

    Args:
        encoder: the frozen part.
        cache: where rows are kept.
        key: all that decides an image's pixels beside its content.
        view_key: all that decides besides how an image is changed in a view.
        digests: of the content of each row's image.
        load: (view, row) → (C, H, W); the view "" is the image unchanged.
    """

    def __init__(
        self,
        encoder: Encoder,
        cache: FeatureCache,
        key: dict[str, Any],
        view_key: dict[str, Any],
        digests: Sequence[str],
        load: Callable[[str, int], Tensor],
    ) -> None:
        self.encoder, self.cache, self.digests, self.load = encoder, cache, digests, load
        self.key, self.view_key = {**encoder.identity(), **key}, view_key
        self._views: dict[str, Rows] = {}

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return self.encoder.cut.numel * self.encoder.dtype.itemsize

    def missing(self, view: str, rows: Sequence[int]) -> list[int]:
        """Those of the rows that are not in the cache."""
        found = self._find(view)
        return [row for row in rows if found.part_of[row] < 0]

    def fill(self, view: str, rows: Sequence[int], tick: Tick = lambda done, total: None) -> None:
        """Compute what is missing of some rows and keep it; says so and stops where there is no room for it."""
        rows = self.missing(view, rows)
        if not rows:
            return
        shelf, items = self._shelf(view), self._items(view)
        chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        waiting: list[tuple[list[int], Tensor]] = []
        done = 0
        try:
            self.cache.make_room(len(rows) * self.row_bytes, shelf.folder)
            for chunk, images in ahead(lambda chunk: (chunk, self._images(view, chunk)), chunks):
                waiting.append((chunk, self.encoder(images).cpu()))
                done += len(chunk)
                if done == len(rows) or len(waiting) * _CHUNK * self.row_bytes >= _SHARD:
                    names = [items[row] for some, _ in waiting for row in some]
                    shelf.add(names, torch.cat([flat for _, flat in waiting]))
                    waiting = []
                tick(done, len(rows))
        except OSError as error:
            warnings.warn(f"the cache cannot be written, the run goes on without: {error}", stacklevel=2)
        self._views.pop(view, None)

    def take(self, view: str, index: Tensor) -> Tensor:
        """Rows (B, N) of a view; what is missing is computed, and not kept."""
        found = self._find(view)
        missing = found.part_of[index] < 0
        if not bool(missing.any()):
            return found.take(index)
        rows = torch.empty(len(index), self.encoder.cut.numel, dtype=self.encoder.dtype)
        rows[missing] = self.encoder(self._images(view, index[missing].tolist())).cpu()
        if not bool(missing.all()):
            rows[~missing] = found.take(index[~missing])
        return rows

    def seconds_per_image(self, wanted: Sequence[tuple[str, int]]) -> float:
        """What one of (view, row) costs to read and compute, from two batches, of which the first warms up."""
        seconds = 0.0
        for some in (wanted[:_CHUNK], wanted[:_CHUNK]):
            started = time.monotonic()
            if some:
                self.encoder(torch.stack([self.load(view, row) for view, row in some]))
                seconds = (time.monotonic() - started) / len(some)
        return seconds

    def is_true(self, view: str, rows: Sequence[int], seed: int) -> bool:
        """Whether some rows, drawn at random, are what the encoder gives now."""
        draw = torch.Generator().manual_seed(seed)
        picked = [rows[i] for i in torch.randperm(len(rows), generator=draw)[:_CHECKED].tolist()]
        if not picked:
            return True
        kept = self._find(view).take(torch.tensor(picked)).float()
        now = self.encoder.plain(self._images(view, picked)).cpu().float()
        tolerance = 1e-4 if self.encoder.dtype == torch.float32 else 5e-2
        return bool((kept - now).abs().max() <= tolerance * now.abs().max())

    def forget(self, view: str) -> None:
        """Remove a view from the cache."""
        for path in self._shelf(view).folder.glob("*.rows"):
            with contextlib.suppress(OSError):
                path.unlink()
        self._views.pop(view, None)

    def _find(self, view: str) -> Rows:
        if view not in self._views:
            self._views[view] = self._shelf(view).find(self._items(view))
        return self._views[view]

    def _shelf(self, view: str) -> Shelf:
        key = {**self.key, **self.view_key, "view": view} if view else self.key
        return self.cache.shelf(key, self.encoder.cut.numel, self.encoder.dtype)

    def _items(self, view: str) -> list[str]:
        # What is drawn for a view depends on the row too.
        return [f"{digest} {row}" if view else digest for row, digest in enumerate(self.digests)]

    def _images(self, view: str, rows: Sequence[int]) -> Tensor:
        return torch.stack([self.load(view, row) for row in rows])


def ahead(load: Callable[[T], R], things: Iterable[T], depth: int = 2) -> Iterator[R]:
    """What `load` gives for each thing, in order; a thread loads the next ones while the caller works on one."""
    yield from in_order(load, things, workers=1, depth=depth)


def in_order(load: Callable[[T], R], things: Iterable[T], workers: int, depth: int) -> Iterator[R]:
    """What `load` gives for each thing, in order; threads load up to `depth` of the next ones meanwhile."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Any] = deque()
        for thing in things:
            waiting.append(pool.submit(load, thing))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
