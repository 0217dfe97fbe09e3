"""A folded bf16 pass over all cells, with decoding in a worker: the least that features cost. Prints seconds."""

from __future__ import annotations

import sys
import time
from importlib.resources import files
from pathlib import Path

import torch
from PIL import Image
from timm.layers.norm_act import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as pixel

from tune.models.backbones.timm_model import TimmBackbone


class Cells(Dataset):
    """Every photograph at 224 px, normalised."""

    def __init__(self) -> None:
        folder = Path(str(files("elpv_dataset"))) / "data"
        self.paths = [folder / line.split()[0] for line in (folder / "labels.csv").read_text().splitlines()]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        picture = Image.open(self.paths[row]).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        return (pixel.to_dtype(pixel.pil_to_tensor(picture), torch.float32, scale=True) - 0.5) / 0.5


def fold(module: nn.Module) -> None:
    """Fold each norm into the convolution that is declared before it."""
    before, name_before = None, ""
    for name, child in list(module.named_children()):
        if isinstance(child, BatchNormAct2d) and isinstance(before, nn.Conv2d):
            setattr(module, name_before, fuse_conv_bn_eval(before, child))
            setattr(module, name, nn.Sequential(child.drop, child.act))
        else:
            fold(child)
        before, name_before = child, name


def main() -> None:
    """Time the pass, without imports."""
    started = time.monotonic()
    model = TimmBackbone("tf_efficientnet_lite0", "package").model.eval()
    fold(model)
    model.to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for images in DataLoader(Cells(), 32, num_workers=1):
            model(images.contiguous(memory_format=torch.channels_last))
    sys.stdout.write(f"{time.monotonic() - started:.2f}\n")


if __name__ == "__main__":
    main()
