from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tune.errors import ConfigError
from tune.models.backbones.timm_model import TimmBackbone
from tune.models.readout import Readout


@pytest.mark.parametrize("kind", ["average", "max", "average_max", "gem", "flatten"])
def test_each_readout_matches_a_loop_over_pixels(kind):
    maps = torch.rand(2, 3, 4, 5)
    rows = []
    for image in maps.tolist():
        channels = [[pixel for line in channel for pixel in line] for channel in image]
        average, largest = [sum(c) / 20 for c in channels], [max(c) for c in channels]
        rows.append(
            {
                "average": average,
                "max": largest,
                "average_max": average + largest,
                "gem": [(sum(x**4 for x in c) / 20) ** (1 / 4) for c in channels],
                "flatten": [pixel for c in channels for pixel in c],
            }[kind]
        )
    readout = Readout(kind, 4.0, channels_last=False)
    assert_close(readout(maps), torch.tensor(rows))
    assert_close(Readout(kind, 4.0, channels_last=True)(maps.permute(0, 2, 3, 1)), torch.tensor(rows))


def test_the_generalised_mean_lies_between_average_and_maximum():
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    assert_close(Readout("gem", 1.0, False)(maps), Readout("average", 1.0, False)(maps))
    assert_close(Readout("gem", 2000.0, False)(maps), Readout("max", 1.0, False)(maps), rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224", "efficientnet_lite0"])
def test_the_average_is_what_the_model_does_itself(name):
    torch.manual_seed(0)
    own = TimmBackbone(name, weights="none").eval()
    read = TimmBackbone(name, weights="none", readout="average").eval()
    read.model.load_state_dict(own.model.state_dict())
    images = torch.randn(1, 3, *own.input.size)
    assert_close(read(images), own(images), rtol=1e-4, atol=1e-5)
    both = TimmBackbone(name, weights="none", readout="average_max")
    assert both.feature_dim == 2 * own.feature_dim


def test_a_readout_without_effect_is_refused():
    with pytest.raises(ConfigError, match="not in a map"):
        TimmBackbone("vit_tiny_patch16_224", weights="none", readout="max")
    with pytest.raises(ConfigError, match="readout_power: has no effect"):
        TimmBackbone("resnet18", weights="none", readout_power=2.0)
