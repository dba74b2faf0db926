"""The U-Net++ alone, for prediction: the weights, layers and order of `network.build`, nothing of its library.

segmentation_models_pytorch imports timm and torch's compiler to build any of hundreds of networks: several seconds of
processor time in each process, more than a small patient's prediction takes. Prediction needs this one. Keys and
results are segmentation_models_pytorch's, bit for bit (tests/networks/test_unetpp.py).

U-Net++: Zhou et al. 2018, doi:10.1007/978-3-030-00889-5_1. Residual encoder: He et al. 2016.
"""

import torch
from torch import nn
from torch.nn import functional

from synthct.core import limits

ENCODERS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}  # residual blocks of each stage
STRIDE = limits.STRIDE  # in-plane sizes must be multiples of this
STAGES = (64, 64, 128, 256, 512)  # channels after each halving


def padded(size: int) -> int:
    """The smallest multiple of `STRIDE` that holds `size` pixels."""
    return -(-size // STRIDE) * STRIDE


class UnetPlusPlus(nn.Module):
    """`channels` slices (n, channels, y, x) to one slice of synthetic CT (n, 1, y, x) in [-1, 1].

    `decoder` gives the decoder's channels from deep to shallow, one for each halving of the encoder (3 to 5). The
    weights are undefined until they are loaded.
    """

    def __init__(self, encoder: str, channels: int, decoder: tuple[int, ...]):
        super().__init__()
        self.encoder = Encoder(ENCODERS[encoder], channels, len(decoder))
        self.decoder = Decoder(STAGES[: len(decoder)][::-1], decoder)
        self.segmentation_head = nn.Sequential(Convolution(decoder[-1], 1, 3, padding=1), nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.decoder(self.encoder(x))
        with torch.autocast(x.device.type, enabled=False):  # as in training: near -1 (air), bf16 has steps of 4 to 8 HU
            return self.segmentation_head(x.float())


class Convolution(nn.Conv2d):
    """A convolution whose weights are undefined until they are loaded: drawing 26 million numbers first takes time."""

    def reset_parameters(self):
        """Nothing is drawn."""


class Encoder(nn.Module):
    """A residual network that gives its features after each halving, the deepest first."""

    def __init__(self, counts: tuple[int, ...], channels: int, depth: int):
        super().__init__()
        self.conv1 = Convolution(channels, STAGES[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGES[0])
        self.stages = [f"layer{number}" for number in range(1, depth)]
        for number, name in enumerate(self.stages, 1):
            first = Residual(STAGES[number - 1], STAGES[number], 1 if number == 1 else 2)
            others = [Residual(STAGES[number], STAGES[number], 1) for _ in range(counts[number - 1] - 1)]
            setattr(self, name, nn.Sequential(first, *others))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = [functional.relu(self.bn1(self.conv1(x)), inplace=True)]
        x = functional.max_pool2d(features[0], 3, 2, 1)
        for name in self.stages:
            x = getattr(self, name)(x)
            features.append(x)
        return features[::-1]


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = Convolution(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = Convolution(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Sequential | None = None
        if stride > 1:
            self.downsample = nn.Sequential(Convolution(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return functional.relu(y, inplace=True)


class Decoder(nn.Module):
    """Nodes X(d, l): from the node one level deeper, enlarged, and all nodes and the feature map of its own size.

    Block ``x_d_l`` makes X(d, l); l counts the sizes from the deepest, d the feature map that the row starts from. The
    last block, ``x_0_depth``, has no feature map of its size to join.
    """

    def __init__(self, features: tuple[int, ...], decoder: tuple[int, ...]):
        super().__init__()
        self.depth = len(decoder) - 1
        below, skip = (features[0], *decoder[:-1]), features[1:]
        blocks, self.widths = {}, {}  # widths: of the maps that each block joins, in their order
        for size in range(self.depth):
            for start in range(size + 1):
                joined = skip[size] * (size + 1 - start)
                enlarged, out = (below[size], decoder[size]) if start == 0 else (skip[size - 1], skip[size])
                blocks[f"x_{start}_{size}"] = Block(enlarged + joined, out)
                self.widths[f"x_{start}_{size}"] = (skip[size],) * (size + 1 - start)
        blocks[f"x_0_{self.depth}"] = Block(below[-1], decoder[-1])
        self.widths[f"x_0_{self.depth}"] = ()
        self.blocks = nn.ModuleDict(blocks)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        row: list[torch.Tensor] = []  # the nodes of the size at hand, by the feature map that their row starts from
        for size in range(self.depth):
            skip = features[size + 1]
            own = self.blocks[f"x_{size}_{size}"](features[size], [skip])
            nodes = [own]
            for start in range(size - 1, -1, -1):
                nodes.insert(0, self.blocks[f"x_{start}_{size}"](row[start], [*nodes, skip]))
            row = nodes
        return self.blocks[f"x_0_{self.depth}"](row[0], [])


class Block(nn.Module):
    """Enlarge by two, join what has that size, two 3×3 convolutions."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = self._layer(before, after)
        self.conv2 = self._layer(after, after)

    @staticmethod
    def _layer(before: int, after: int) -> nn.Sequential:
        convolution = Convolution(before, after, 3, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))

    def forward(self, x: torch.Tensor, joined: list[torch.Tensor]) -> torch.Tensor:
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv2(self.conv1(torch.cat([x, *joined], 1) if joined else x))
