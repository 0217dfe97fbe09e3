"""What a user may write, each with one fault; test_runs_doctor allows it as a module of the user's own."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from tune.data.readers.interface import Reader
from tune.data.readers.synthetic import Synthetic
from tune.models.interface import Backbone, Head, InputSpec
from tune.train.optim import adamw


class Pure(nn.Module):
    """A loss without a fault."""

    def forward(self, output, batch):
        return -(batch.label_probs * output.logits.log_softmax(dim=1)).sum(dim=1).mean()


class TwiceSoftmax(Pure):
    def forward(self, output, batch):
        return super().forward(replace(output, logits=output.logits.softmax(dim=1)), batch)


class WrongTensor(Pure):
    def forward(self, output, batch):
        return super().forward(replace(output, logits=output.features[:, : batch.label_probs.shape[1]]), batch)


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class WrongGradient(Pure):
    def forward(self, output, batch):
        return super().forward(replace(output, logits=_Doubled.apply(output.logits)), batch)


class Plain(Head):
    """A head without a fault."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, num_classes)

    def forward(self, features):
        return features, self.linear(features)


class Softmax(Plain):
    def forward(self, features):
        return features, self.linear(features).softmax(dim=1)


class Leaking(Plain):
    def forward(self, features):
        return features, self.linear(features - features.mean(dim=0))


class WrongLayer(Plain):
    def forward(self, features):
        return features, self.linear(_Doubled.apply(features))


class Small(Backbone):
    """A backbone without a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 16, 3, 2), nn.ReLU())
        self.feature_dim = 16
        self.input = InputSpec((32, 32), (0.5,) * 3, (0.5,) * 3, "bilinear")
        tensors = [name for name, _ in [*self.named_parameters(), *self.named_buffers()]]
        self.layers = {layer: [name for name in tensors if name.startswith(layer)] for layer in ("first", "second")}
        self.weights_source, self.weights_digest = "random weights", ""

    def forward(self, images):
        return self.second(self.first(images)).mean((2, 3))


class Detached(Small):
    def forward(self, images):
        return self.second(self.first(images).detach()).mean((2, 3))


class Wakeful(Small):
    """Its norms follow the data, whoever asks. And it cannot be traced, so that it runs as a whole."""

    def forward(self, images):
        self.first[1].train()
        return super().forward(images) if float(images.detach().abs().max()) < 100 else images.mean((2, 3))


class Unnormalised(Small):
    """Mean and sd of pixels from 0 to 255, where those of 0 to 1 are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.input = InputSpec((32, 32), (123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "bilinear")


class Dead(Small):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.second[0].bias, -1e3)


def forgetful(params: list, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW of all groups but the last."""
    return adamw(params[:-1], lr, weight_decay, (0.9, 0.999))


class FromOne(Reader):
    def __init__(self, rows: int = 60) -> None:
        self.rows = rows

    def read(self):
        table = Synthetic(rows=self.rows).read()
        return replace(table, labels=table.labels + 1)
