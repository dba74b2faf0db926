"""The 2.5D U-Net++ of the paper: `channels` neighbouring slices in, one slice of synthetic CT in [-1, 1] out."""

import segmentation_models_pytorch as smp
import torch
from torch import nn

from synthct.core import limits


class Head(nn.Sequential):
    """The last convolution and tanh, in float32 also under autocast: near -1 (air), bf16 has steps of 4 to 8 HU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As a Sequential's."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def build(settings: dict, channels: int) -> nn.Module:
    """A U-Net++ with a tanh head, weights not yet drawn (see `initialise`).

    `settings` is the table ``training.network``: encoder, decoder_channels. With the paper's (resnet34; 256, 128, 64,
    32, 16) it has 26,084,881 parameters at 5 channels and 26,078,609 at 3. Input (n, channels, y, x) with y and x
    multiples of `unetpp.STRIDE`, output (n, 1, y, x). State-dict keys are those of segmentation-models-pytorch (the
    head has none of its own). Source: Boussot et al. 2025, section 3.3, and the released UNetpp.yml.
    """
    limits.check({"training": {"network": settings}})
    decoder = tuple(settings["decoder_channels"])
    model = smp.UnetPlusPlus(
        settings["encoder"],
        encoder_depth=len(decoder),
        encoder_weights=None,
        decoder_channels=decoder,
        in_channels=channels,
        classes=1,
        activation="tanh",
    )
    model.segmentation_head = Head(*model.segmentation_head)
    for stage in range(len(decoder), 5):  # a shallower encoder has these too, though nothing passes through them
        setattr(model.encoder, f"layer{stage}", nn.Identity())
    return model


def initialise(model: nn.Module, settings: dict, generator: torch.Generator) -> nn.Module:
    """Draw the weights of `model` from `generator`, per the settings ``training.network``.

    init "normal": convolutions N(0, init_std), biases 0, BatchNorm gamma N(batchnorm_mean, init_std), beta 0 (KonfAI;
    up to 1.5.8 its BatchNorm mean was 0). init "kaiming": convolutions N(0, 2/fan_out), BatchNorm gamma 1.
    `head_bias` is what the tanh sees before anything is learnt: 0 is the middle of the CT's range, -0.55 about 0 HU.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if settings["init"] == "normal":
                nn.init.normal_(module.weight, 0.0, settings["init_std"], generator=generator)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            if settings["init"] == "normal":
                nn.init.normal_(module.weight, settings["batchnorm_mean"], settings["init_std"], generator=generator)
            nn.init.zeros_(module.bias)
    nn.init.constant_(model.get_parameter("segmentation_head.0.bias"), settings["head_bias"])
    return model
