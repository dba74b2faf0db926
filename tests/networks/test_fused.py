"""The fused network says what the eager one says, to the HU, and the same bits every time."""

import pytest
import torch
from models import SMALL, lively

from synthct.core.device import repeatable
from synthct.core.errors import InputError
from synthct.networks.fused import Fused, enlarging, folded, fusable
from synthct.prediction import inference
from synthct.prediction.bundle import network_for

HU = 4095 / 2  # of one unit of the network's output


def network(channels: int = 5, **changes):
    settings = SMALL | changes
    made = network_for(settings, channels)
    made.load_state_dict(lively(settings, channels, 3).state_dict())
    return made.eval()


@pytest.mark.parametrize(
    ("changes", "channels"),
    [
        ({"encoder": "resnet34", "decoder_channels": [256, 128, 64, 32, 16]}, 5),
        ({"decoder_channels": [32, 16, 16, 8]}, 3),
        ({"decoder_channels": [16, 16, 8]}, 1),
    ],
)
def test_within_one_hu_of_eager_and_repeatable(changes, channels):
    eager = network(channels, **changes)
    fused = Fused(eager)
    for shape in ((1, channels, 64, 96), (2, channels, 96, 64), (1, channels, 64, 96)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            expected = eager(x)
        assert expected.std() > 0.05
        made = fused(x)
        assert made.shape == expected.shape
        assert (made - expected).abs().max() * HU <= 1
        assert torch.equal(fused(x), made)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "limit", "mean"), [(torch.float32, 1, 0.01), (torch.bfloat16, 2000, 40)])
def test_the_same_on_a_gpu(dtype, limit, mean):
    repeatable("cuda")
    eager = network(5, encoder="resnet34", decoder_channels=[256, 128, 64, 32, 16])
    x = torch.randn(2, 5, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = eager(x)
    fused = Fused(eager.cuda(), dtype)
    made = fused(x.cuda())
    apart = (made.cpu() - expected).abs() * HU
    assert apart.max() <= limit
    assert apart.mean() <= mean
    assert torch.equal(fused(x.cuda()), made)


def test_folding_leaves_the_network_alone():
    eager = network()
    before = {key: value.clone() for key, value in eager.state_dict().items()}
    plain = folded(eager)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    assert all(torch.equal(value, before[key]) for key, value in eager.state_dict().items())
    x = torch.randn(1, 5, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert (plain(x) - eager(x)).abs().max() * HU <= 1


def test_enlarging_is_the_convolution_of_the_enlarged_map():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 3, 5, 6, generator=generator, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(torch.nn.functional.interpolate(x, scale_factor=2.0), weight, padding=1)
    assert torch.allclose(torch.nn.functional.conv_transpose2d(x, enlarging(weight), None, 2, 1), expected)


def test_what_cannot_be_fused_runs_as_it_is():
    other = torch.nn.Conv2d(5, 1, 3, padding=1)
    assert not fusable(other)
    assert inference.ready(other, "fused") is other
    assert isinstance(inference.ready(network(), "fused"), Fused)
    with pytest.raises(InputError, match=r"inference.graph: 'quick'"):
        inference.ready(other, "quick")
    with pytest.raises(InputError, match=r"inference.precision: 'int8'"):
        inference.ready(other, "eager", "int8")


def test_bf16_is_near_float32_and_air_stays_air():
    eager = network()
    half = inference.ready(eager, "fused", "bf16")  # on a CPU the fused graph is float32's alone
    assert isinstance(half, inference.HalfPrecision)
    x = torch.randn(1, 5, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, made = eager(x), half(x)
    assert made.dtype == torch.float32
    assert 0 < (made - expected).abs().mean() * HU < 40  # random weights make the most of rounding
    assert len((made * HU).round().unique()) > 1000, "the last convolution's steps are bf16's"
