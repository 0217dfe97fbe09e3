"""The part of the network that is frozen, phase by phase: cut off, run once over the images, and kept."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from tune.errors import ConfigError, Problem
from tune.features.cache import FeatureCache
from tune.features.compiled import choose, estimate
from tune.features.extract import Encoder, FrozenRows
from tune.features.options import CacheOptions
from tune.features.prefix import Uncut, cut_backbone
from tune.models.freeze import apply_phase, set_modes
from tune.talk import bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from tune.data.module import ImageData
    from tune.data.splits import Parts
    from tune.features.compiled import Mode
    from tune.features.contents import Contents
    from tune.features.prefix import Cut
    from tune.models.freeze import FreezePlan, Phase
    from tune.models.network import Network
    from tune.train.devices.precision import Precision


@dataclass
class FrozenPart:
    """What runs in front of what trains.

    Args:
        phases: of the run.
        parts: rows that train, validate and test.
        trained: rows of which training takes views.
        is_looked_at: whether training rows are seen as they are too, by what adapts one domain to another.
        views: augmented views of each training image; 0: training images are not changed at random.
        epochs: of the run.
        turns: passes over the training rows of which some epochs take something.
        encoders: the frozen part of each phase, None where there is none or it cannot be cut off.
        rows: what the encoders say of the rows, for the phases in which that is kept.
        notes: why something is not cut off or not kept, as parts of sentences.
        compile_notes: what compiling the frozen part of a phase would bring, and whether it is done.
        phase: number of the phase that the network is in.
    """

    phases: Sequence[Phase]
    parts: Parts
    trained: list[int]
    is_looked_at: bool
    views: int
    epochs: int
    turns: Callable[[int, int], range]
    encoders: list[Encoder | None]
    rows: list[FrozenRows | None]
    notes: list[str] = field(default_factory=list)
    compile_notes: list[str] = field(default_factory=list)
    phase: int = 0
    filled: set[tuple[int, str]] = field(default_factory=set)  # (number of a phase, view) that were asked for

    @property
    def is_kept(self) -> bool:
        """Whether no image is needed once the cache is full."""
        return all(rows is not None for rows in self.rows)

    @property
    def is_full(self) -> bool:
        """Whether no image is needed from the start."""
        return self.is_kept and not any(
            rows.missing(view, some)
            for number, rows in enumerate(self.rows)
            if rows is not None
            for view, some in self.wanted(number)
        )

    @property
    def plain(self) -> list[int]:
        """Rows that the network sees as they are."""
        seen = [self.parts.val, self.parts.test]
        if not self.views or self.is_looked_at:
            seen.insert(0, self.parts.train)
        return [row for part in seen for row in part.tolist()]

    def fill(self, say: Callable[[str], None]) -> None:
        """Compute what the run needs of images as they are; augmented views come as the epochs do.

        What is there already is believed after a few rows of it were computed again.
        """
        for number, rows in enumerate(self.rows):
            if rows is None:
                continue
            there = sorted(set(self.plain) - set(rows.missing("", self.plain)))
            if not rows.is_true("", there, seed=number):
                say("note: the cache does not hold what the network says now; it is filled anew")
                rows.forget("")
            if missing := len(rows.missing("", self.plain)):
                started = time.monotonic()
                with bar(f"{missing:,} images", missing) as tick:
                    rows.fill("", self.plain, tick)
                say(f"cache     {missing:,} images in {time.monotonic() - started:.1f} s")

    def keep(self, rows: Sequence[int]) -> None:
        """Compute what the first phase needs of some rows as they are, and keep it; nothing where they are changed."""
        if self.rows[0] is not None and not self.views:
            self.rows[0].fill("", rows)

    def fill_views(self) -> None:
        """Compute every augmented view that the run will ask for."""
        for number, rows in enumerate(self.rows):
            if rows is not None:
                for view, wanted in self.wanted(number)[1:]:
                    rows.fill(view, wanted)

    def wanted(self, number: int) -> list[tuple[str, list[int]]]:
        """What a phase asks of the frozen part: images as they are (""), then each augmented view."""
        end = self.phases[number + 1].start_epoch if number + 1 < len(self.phases) else self.epochs
        turns = self.turns(self.phases[number].start_epoch, end) if self.views else ()
        views = dict.fromkeys(str(turn % self.views) for turn in turns)
        return [("", self.plain), *((view, self.trained) for view in views)]

    def estimate_seconds(self) -> float:
        """How long it takes to compute what is missing, from a few images."""
        seconds = 0.0
        for number, rows in enumerate(self.rows):
            if rows is not None:
                missing = [(view, row) for view, some in self.wanted(number) for row in rows.missing(view, some)]
                seconds += rows.seconds_per_image(missing) * len(missing)
        return seconds

    def describe(self) -> str:
        """One line for the first screen; empty when nothing is frozen."""
        lines, train = [], len(self.trained)
        for number, (encoder, rows) in enumerate(zip(self.encoders, self.rows, strict=True)):
            if rows is not None:
                wanted = self.wanted(number)
                total = sum(len(some) for _, some in wanted)
                missing = sum(len(rows.missing(view, some)) for view, some in wanted)
                state = "full" if not missing else "empty" if missing == total else f"{missing:,} missing"
                views = f" + {len(wanted) - 1} views of {train:,}" if self.views else ""
                size = f"{rows.row_bytes * total / 1e6:,.1f} MB"
                lines.append(f"{state}: {len(self.plain):,} images{views} × {rows.encoder.cut.numel:,}, {size}")
            elif encoder is not None and not self.notes:
                lines.append("not used")
        return "; ".join([*dict.fromkeys(lines), *self.notes])

    @property
    def encoder(self) -> Encoder | None:
        """The frozen part of the present phase."""
        return self.encoders[self.phase]

    def take(self, epoch: int | None, turn: int, index: Tensor) -> Tensor | None:
        """What crosses the cut (B, N) for rows of the table; None in a phase in which it is not kept.

        Args:
            epoch: of training, which decides the phase; None for images as they are, in the present phase.
            turn: the pass over the rows, which decides the augmented view.
            index: (B,) rows of the table.
        """
        number = self.phase if epoch is None else _number(self.phases, epoch)
        rows, view = self.rows[number], "" if epoch is None or not self.views else str(turn % self.views)
        if rows is None:
            return None
        if view and (number, view) not in self.filled:
            self.filled.add((number, view))
            rows.fill(view, self.trained)
        return rows.take(view, index)

    def enter(self, phase: Phase) -> None:
        """Work in a phase from now on."""
        self.phase = list(self.phases).index(phase)


def _number(phases: Sequence[Phase], epoch: int) -> int:
    return max(number for number, phase in enumerate(phases) if phase.start_epoch <= epoch)


def frozen_part(
    config: dict[str, Any],
    network: Network,
    plan: FreezePlan,
    phases: list[Phase],
    data: ImageData,
    contents: Contents,
    precision: Precision,
    device: str,
    world: int,
) -> FrozenPart:
    """Cut the network in each phase, and find out whether what crosses the cut can be kept.

    Raises:
        ConfigError: if the cache is required and cannot be used.
    """
    options = CacheOptions(**config["cache"])
    views = (options.views or data.turns(0, config["epochs"]).stop) if data.changes_pixels else 0
    none = [None] * len(phases)
    part = FrozenPart(
        phases,
        data.parts,
        data.trained,
        data.table.domain is not None,
        views,
        config["epochs"],
        data.turns,
        [*none],
        [*none],
    )
    if options.views and not views:
        raise ConfigError(Problem("cache.views", "has no effect: augment changes no pixels"))
    if device == "xla" or precision.trainer in ("bf16-true", "64-true"):
        part.notes.append(f"a frozen part is not cut off {'on a TPU' if device == 'xla' else precision.trainer}")
    else:
        where = torch.device({"cuda": "cuda", "mps": "mps"}.get(device, "cpu"))
        _cut(part, network, plan, precision, where, config["compile"])
    if options.mode != "never" and any(part.encoders):
        _keep(part, options, config, network, data, contents, world)
    if part.compile_notes and part.is_full:
        part.compile_notes.clear()
    if options.mode == "require" and not part.is_kept:
        why = "; ".join(part.notes) or "nothing before the first layer that trains is frozen in every phase"
        raise ConfigError(Problem("cache", f"the run cannot use it: {why}. With cache=auto it runs all the same"))
    return part


def _cut(
    part: FrozenPart,
    network: Network,
    plan: FreezePlan,
    precision: Precision,
    device: torch.device,
    compiled: Mode,
) -> None:
    computed = precision.frozen_part
    for number, phase in enumerate(part.phases):
        try:
            cut = cut_in(network, plan, phase)
        except Uncut as error:
            part.notes.append(f"the backbone is not cut: {error}")
            continue
        if cut is None:
            continue
        images = sum(len(some) for _, some in part.wanted(number))
        worth = estimate(cut, images, network.backbone.input.size, computed)
        is_compiled = choose(compiled, device.type, worth)
        if is_compiled or worth.saves:
            part.compile_notes.append(f"{'compiled' if is_compiled else 'not compiled'}: {worth}")
        part.encoders[number] = Encoder(cut, computed, device, compiled=is_compiled)
    apply_phase(network, part.phases[0], plan.norm)
    network.train()  # what Lightning expects to find; the learner sets the modes of each phase


def cut_in(network: Network, plan: FreezePlan, phase: Phase) -> Cut | None:
    """Cut the backbone of a network as it is in a phase, in which the network is left; see `cut_backbone`."""
    apply_phase(network, phase, plan.norm)
    network.train()
    set_modes(network, phase, plan.norm)
    trained = {name for name, parameter in network.backbone.named_parameters() if parameter.requires_grad}
    return cut_backbone(network.backbone, trained)


def _keep(
    part: FrozenPart,
    options: CacheOptions,
    config: dict[str, Any],
    network: Network,
    data: ImageData,
    contents: Contents,
    world: int,
) -> None:
    """Keep what every encoder says, if it can be and there is room."""
    if data.mixes:
        part.notes.append("mixup and cutmix mix images, so that each is seen once")
        return
    if world > 1:
        part.notes.append("several processes share the rows")
        return
    if contents.trouble:
        part.notes.append(contents.trouble)
        return
    cache, digests = FeatureCache(contents.folder, options.max_gb), contents.digests(data.table)
    view_key = {"augment": config["augment"], "seed": config["seed"]}
    for number, encoder in enumerate(part.encoders):
        if encoder is None:
            continue
        frozen = [layer for layer in network.layers if layer not in part.phases[number].trained]
        about = f"{config['backbone'].get('name', config['backbone']['_target_'])} up to {frozen[-1]}"
        rows = FrozenRows(
            encoder, cache, {"input": data.transform.identity(), "about": about}, view_key, digests, data.load
        )
        size = rows.row_bytes * sum(len(some) for _, some in part.wanted(number))
        if size > cache.max_bytes:
            part.notes.append(f"what crosses the cut takes {size / 1e9:.1f} GB, cache.max_gb is {options.max_gb:g}")
            continue
        part.rows[number] = rows
