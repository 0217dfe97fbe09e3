import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tune.batch import Batch, Output
from tune.losses.cross_entropy import CrossEntropy
from tune.transfer.dann import Dann, ramp, reverse


def test_the_reversed_gradient_is_minus_the_factor_times_that_of_finite_differences():
    x = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64, requires_grad=True)

    def plain(x):
        return (x**3).sum() + x.sin().prod()

    plain(reverse(x, 0.7)).backward()
    for place in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[place] = 1e-6
        slope = float(plain(x.detach() + step) - plain(x.detach() - step)) / 2e-6
        assert x.grad is not None
        assert float(x.grad[place]) == pytest.approx(-0.7 * slope, rel=1e-6)


def test_what_is_reversed_is_the_same_forwards():
    x = torch.randn(4, 3)
    assert torch.equal(reverse(x, 2.0), x)


def test_the_schedule_is_that_of_the_paper():
    assert ramp(0.0) == 0
    for p in (0.1, 0.5, 1.0):
        assert ramp(p) == pytest.approx(2 / (1 + math.exp(-10 * p)) - 1)
    assert ramp(1.0) > 0.999


class Small(nn.Module):
    """A network of one layer and a head."""

    embedding_dim = 3

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, images):
        embedding = self.layer(images)
        return Output(embedding, embedding, self.head(embedding))


def batch(shift: float) -> Batch:
    images = torch.randn(6, 2, generator=torch.Generator().manual_seed(1)) + shift
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    return Batch(images, labels, nn.functional.one_hot(labels, 2).float(), torch.ones(6), torch.arange(6))


def gradients(progress: float):
    torch.manual_seed(0)
    network, method = Small(), Dann(strength=0.5, hidden=4)
    method.refuse(network, CrossEntropy(), None)  # type: ignore[arg-type]
    terms = method.terms(network, {"source": batch(0.0), "target": batch(1.0)}, progress)  # type: ignore[arg-type]
    terms["domain"].backward()
    return terms, network, method


def test_the_discriminator_learns_what_the_network_unlearns():
    """The gradient of the discriminator is plain; that of the layer in front of it is reversed and scaled."""
    _, half, method = gradients(0.5)
    _, end, same = gradients(1.0)
    assert_close(method.discriminator[0].weight.grad, same.discriminator[0].weight.grad)
    assert_close(half.layer.weight.grad / ramp(0.5), end.layer.weight.grad / ramp(1.0))
    step = 0.05
    with torch.no_grad():
        end.layer.weight -= step * end.layer.weight.grad
    said = end(torch.cat([batch(0.0).images, batch(1.0).images])).embedding
    truth = torch.cat([torch.zeros(6), torch.ones(6)])
    worse = nn.functional.binary_cross_entropy_with_logits(same.discriminator(said).squeeze(1), truth)
    terms, _, _ = gradients(1.0)
    assert float(worse.detach()) > float(terms["domain"].detach())


def test_the_network_feels_nothing_at_the_start():
    _, network, _ = gradients(0.0)
    assert float(network.layer.weight.grad.abs().max()) == 0
