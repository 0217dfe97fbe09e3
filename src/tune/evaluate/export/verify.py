"""Whether an exported file says of real images what the run's own network says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tune.evaluate.tasks import answer

if TYPE_CHECKING:
    from torch import Tensor

    from tune.evaluate.loaded import Loaded

TOLERANCE = 1e-4
_CHUNK = 8


@torch.inference_mode()
def differences(loaded: Loaded, run: Callable[[Tensor], list[Tensor]], images: Sequence[Any]) -> dict[str, float]:
    """Largest difference of each output over some images, in batches of several sizes.

    Of logits and numbers it is divided by the largest of them where that is above 1, since fp32 rounds by shares.

    Args:
        loaded: the run; its network gets images that were normalised by the run's own transform.
        run: the file; gets pixels 0-1.
        images: files, arrays or Pillow images, one or more.
    """
    pixels = torch.stack([loaded.transform.pixels(image) for image in images])
    normalised = torch.stack([loaded.transform(image) for image in images])
    output = loaded.network(normalised)
    wanted = {"probabilities": output.logits.softmax(dim=1), "logits": output.logits}
    wanted |= {name: answer(task, output.tasks[name]) for name, task in loaded.tasks.items()}
    parts = [pixels[:1], *pixels[1:].split(_CHUNK)]
    said = [torch.cat(column) for column in zip(*(run(part.contiguous()) for part in parts if len(part)), strict=True)]
    found = {}
    for (name, expected), got in zip(wanted.items(), said, strict=True):
        if expected.shape != got.shape:
            found[name] = float("inf")
            continue
        scale = max(1.0, float(expected.abs().max()))
        found[name] = float((expected.double() - got.double()).abs().max()) / scale
    return found
