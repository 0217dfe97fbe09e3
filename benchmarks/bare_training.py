"""One epoch of full fine-tuning in a bare loop: fp32, channels_last, AdamW, images read as `tune` reads them.

Prints images/s.
"""

from __future__ import annotations

import sys
import time

import torch

from tune.config.compose import ConfigTree, compose
from tune.train.prepare import prepare


def main(words: list[str]) -> None:
    """Time the training batches of one epoch."""
    prepared = prepare(compose(ConfigTree.find(None), words).cfg)
    network = prepared.network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    rows, started = 0, time.monotonic()
    for batch in prepared.data.train_dataloader():
        target = batch["target"]
        output = network(target.images.contiguous(memory_format=torch.channels_last))
        loss = torch.nn.functional.cross_entropy(output.logits, target.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rows += len(target.labels)
    sys.stdout.write(f"{rows / (time.monotonic() - started):.2f}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
