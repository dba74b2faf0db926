"""The network that predicts is the network that was trained: same keys, same shapes, same output to the bit."""

import pytest
import torch
from models import SMALL, lively

from synthct.networks.unetpp import UnetPlusPlus
from synthct.prediction.bundle import network_for


@pytest.mark.parametrize(
    ("encoder", "decoder", "channels"),
    [("resnet34", [256, 128, 64, 32, 16], 5), ("resnet18", [32, 16, 16, 8], 3), ("resnet18", [16, 16, 8], 1)],
)
def test_same_as_segmentation_models_pytorch(encoder, decoder, channels):
    settings = SMALL | {"encoder": encoder, "decoder_channels": decoder}
    trained = lively(settings, channels, 3).eval()
    predicting = network_for(settings, channels)
    assert isinstance(predicting, UnetPlusPlus)
    assert {k: v.shape for k, v in predicting.state_dict().items()} == {
        k: v.shape for k, v in trained.state_dict().items()
    }
    predicting.load_state_dict(trained.state_dict())
    x = torch.randn(2, channels, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = trained(x)
        assert expected.std() > 0.05
        assert torch.equal(predicting.eval()(x), expected)


def test_the_papers_size():
    with torch.device("meta"):
        network = UnetPlusPlus("resnet34", 5, (256, 128, 64, 32, 16))
    assert sum(parameter.numel() for parameter in network.parameters()) == 26_084_881
