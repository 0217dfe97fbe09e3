"""Cut a backbone where the first parameter that trains comes in: what stands before it need not run twice.

    cut = cut_backbone(backbone, trained={"model.blocks.6.0.conv_pw.weight", …})
    flat = cut.encode(images)                 # (B, N): everything that the rest needs to know of the images
    features = cut.suffix(flat)               # (B, D), as backbone(images)

torch.fx traces the backbone twice, in the modes that hold while it trains and in eval mode, since a graph holds some
of its mode as constants. The suffix shares its modules with the backbone, the prefix has copies of its own.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from tune.features.fold import fold_norms
from tune.features.graph import Entry, Uncut, changes_in_training, crossing_nodes, module_of, roles_of, suffix_of, trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

    from tune.models.interface import Backbone


class Cut:
    """A backbone in two parts.

    Attributes:
        prefix: images (B, C, H, W) → the tensors that cross the cut; frozen, in eval mode, its norms folded.
        entries: what these are, in order.
        folded: how many norms were folded.
        writes: whether the suffix would change its input.
    """

    def __init__(
        self, prefix: fx.GraphModule, train: fx.GraphModule, evaluate: fx.GraphModule, entries: list[Entry]
    ) -> None:
        self.prefix, self.entries, self.folded = prefix, entries, 0
        self.writes = False
        self._train, self._eval = train, evaluate

    @property
    def numel(self) -> int:
        """Numbers that cross the cut for one image, N."""
        return sum(entry.numel for entry in self.entries)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Everything that crosses the cut, (B, N), of images (B, C, H, W); maps of pixels lie channels last in it."""
        return self.pack(self.prefix(images))

    def suffix(self, flat: Tensor, training: bool = False) -> Tensor:
        """Features (B, D) from what crossed the cut (B, N), with the backbone's own parameters.

        Args:
            flat: from `encode`, in any floating dtype.
            training: whether the backbone is in training.
        """
        return self.rest(self.unpack(flat.clone() if self.writes else flat), training)

    def rest(self, tensors: Sequence[Tensor], training: bool) -> Tensor:
        """Features (B, D) from the tensors that cross the cut."""
        return (self._train if training else self._eval)(*tensors)

    def pack(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors that cross the cut as one row per image (B, N)."""
        flat = [
            (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).reshape(-1, entry.numel)
            for tensor, entry in zip(tensors, self.entries, strict=True)
        ]
        return torch.cat(flat, dim=1) if len(flat) > 1 else flat[0]

    def unpack(self, flat: Tensor) -> list[Tensor]:
        """The tensors again."""
        tensors = []
        for entry, part in zip(self.entries, flat.split([entry.numel for entry in self.entries], dim=1), strict=True):
            if len(entry.shape) == 3:
                channels, height, width = entry.shape
                tensors.append(part.reshape(-1, height, width, channels).permute(0, 3, 1, 2))
            else:
                tensors.append(part.reshape(-1, *entry.shape))
        return tensors

    def to(self, device: torch.device) -> Cut:
        """Move what the backbone does not own."""
        for part in (self.prefix, self._train, self._eval):
            part.to(device)
        return self


def cut_backbone(backbone: Backbone, trained: Set[str], *, fold: bool = True) -> Cut | None:
    """Cut a backbone; its modules must be in the modes that hold while it trains, and are left in them.

    Args:
        backbone: on the CPU.
        trained: names of its parameters that train.
        fold: whether the norms of the prefix are folded into its convolutions; the same numbers, rounded otherwise.

    Returns:
        The two parts, or None when nothing stands before the first parameter that trains.

    Raises:
        Uncut: if torch.fx cannot trace it, or the parts do not give what the whole gives.
    """
    live = {name for name, module in backbone.named_modules() if changes_in_training(module)}
    live |= {name.rpartition(".")[0] for name in trained}
    with left_as_it_is(backbone):
        in_training = trace(backbone)
        modes = {module: module.training for module in backbone.modules()}
        backbone.eval()
        in_eval = trace(backbone)
        crossing = crossing_nodes(backbone, in_eval, live, trained)
        if crossing is None:
            return None
        names = [node.name for node in crossing]
        others = crossing_nodes(backbone, in_training, live, trained)
        if others is None or [node.name for node in others] != names:
            raise Uncut("before the cut its graph in training is not the one in evaluation")
        roles = roles_of(backbone, crossing, probe_images(backbone, 2), probe_images(backbone, 3))
        entries = {name: role for name, role in roles.items() if isinstance(role, Entry)}
        if not entries:
            raise Uncut("nothing of the images crosses the cut")
        prefix = module_of(copy.deepcopy(backbone), [node for node in crossing if node.name in entries])
        train, evaluate = (suffix_of(backbone, graph, roles) for graph in (in_training, in_eval))
        cut = Cut(prefix.requires_grad_(False).eval(), train, evaluate, list(entries.values()))
        _compare(backbone, cut, modes)
        cut.folded = fold_norms(prefix) if fold else 0
    return cut


def probe_images(backbone: Backbone, rows: int) -> Tensor:
    """(B, 3, H, W) of noise, the same for the same number of rows."""
    height, width = backbone.input.size
    generator = torch.Generator().manual_seed(rows)
    images = torch.randn(rows, 3, height, width, generator=generator)
    return images.to(next(backbone.parameters()).dtype)


@contextmanager
def left_as_it_is(backbone: nn.Module) -> Iterator[None]:
    """Give modes, statistics and the state of the random generator back as they were."""
    modes = {module: module.training for module in backbone.modules()}
    buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        _restore(backbone, buffers)


def _restore(backbone: nn.Module, buffers: dict[str, Tensor]) -> None:
    for name, buffer in backbone.named_buffers():
        buffer.copy_(buffers[name])


def _compare(backbone: Backbone, cut: Cut, modes: dict[nn.Module, bool]) -> None:
    """Refuse parts that do not give what the whole gives, in evaluation and in training."""
    images = probe_images(backbone, 4)
    buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    with torch.no_grad():
        tensors = cut.prefix(images)
        again = cut.unpack(cut.pack(tensors))
        if not all(map(torch.equal, tensors, again)):
            raise Uncut("what crosses the cut cannot be put in rows")
        for training in (False, True):
            results = []
            for whole in (True, False):
                for module, mode in modes.items():
                    module.training = training and mode
                inputs = [tensor.clone() for tensor in tensors]  # laid out as the whole has them: rounded as there
                torch.manual_seed(0)
                results.append(backbone(images) if whole else cut.rest(inputs, training))
                cut.writes |= not all(map(torch.equal, inputs, tensors))
                _restore(backbone, buffers)
            whole, parts = results
            if whole.shape != parts.shape or (whole - parts).abs().max() > 1e-5 * whole.abs().max():
                raise Uncut(f"its parts do not give what the whole gives in {'training' if training else 'evaluation'}")
