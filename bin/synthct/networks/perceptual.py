"""Fixed encoders for the perceptual loss: VGG-19, SAM, TorchScript modules, TotalSegmentator's network, and MIND.

Each is called with a batch of CT (n, 1, y, x) in [-1, 1] and the target it is compared with, and returns feature maps,
one a layer. Photographs' encoders see the CT repeated to three channels, scaled by the *target's* own range to [0, 1],
then standardised as ImageNet (Boussot et al. 2025, section 3.3; released UNetpp.yml).
"""

from pathlib import Path
from typing import Any

import torch
from segment_anything import sam_model_registry
from torch import nn
from torch.nn import functional
from torchvision.models.vgg import cfgs, make_layers

from synthct.cases.intensity import to_hu
from synthct.core.errors import InputError
from synthct.networks.checkpoint import load_torch
from synthct.networks.nnunet import in_plane, read_network
from synthct.networks.terms import perceptual_terms
from synthct.networks.weights import of_training, require, wanted_by

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
OTHERWISE = "or choose training.perceptual.encoder=mind or none, which need no weights"
FLAT = 0.1  # of [-1, 1], 205 HU: the least range a patch is scaled by, so that one of air alone does not blow up


def encoders(settings: dict, ct_range=(-1024, 3071)) -> dict[str, nn.Module]:
    """The encoders that ``training.perceptual`` chooses, by name, their weights loaded; {} for "none".

    Raises one `InputError` that names every absent file and the command that fetches them.
    """
    files = weight_files(settings)
    return {term["name"]: _encoder(term, files, ct_range) for term in perceptual_terms(settings)}


def weight_files(settings: dict) -> dict[str, Path]:
    """The files that ``training.perceptual`` needs, by the term that needs them; raises as `encoders` does."""
    needs = of_training({"perceptual": settings})
    return dict(zip((need.wanted_by for need in needs), require(needs, otherwise=OTHERWISE), strict=True))


def _encoder(term: dict, files: dict[str, Path], ct_range) -> nn.Module:
    kind, layers = term["kind"], list(term["layers"])
    if kind == "mind":
        return Mind(layers)
    file = files[wanted_by(term)]
    if kind == "totalsegmentator":
        network, properties = read_network(file.parent)
        return TotalSegmentator(network.encoder, properties, layers, ct_range)
    if kind == "vgg19":
        return Photographs(Vgg19(layers, load_torch(file)), term["tile"])
    if kind == "sam":
        return Photographs(Sam(term["variant"] or "vit_b", layers, load_torch(file)), term["tile"])
    return Photographs(Scripted(file, layers), term["tile"])


class Photographs(nn.Module):
    """`features` of photographs' encoders, for CT: scaled by the target's range, three channels, in tiles."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, features: nn.Module, tile: int = 512):
        super().__init__()
        self.features, self.tile = features, tile
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor, reference: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps of `image` (n, 1, y, x), scaled by the range of each `reference` (the target CT)."""
        low, high = reference.amin((1, 2, 3), keepdim=True), reference.amax((1, 2, 3), keepdim=True)
        x = tiles((image - low) / (high - low).clamp(min=FLAT), self.tile)
        return self.features((x - self.mean) / self.deviation)


def tiles(image: torch.Tensor, size: int) -> torch.Tensor:
    """(n, c, y, x) cut into equal tiles of at most `size` pixels a side (0: whole), stacked in the batch axis; edges
    repeated."""
    if not size:
        return image
    counts = [-(-extent // size) for extent in image.shape[-2:]]
    if counts == [1, 1]:
        return image
    height, width = (-(-extent // count) for extent, count in zip(image.shape[-2:], counts, strict=True))
    spare = (counts[0] * height - image.shape[-2], counts[1] * width - image.shape[-1])
    image = functional.pad(image, (0, spare[1], 0, spare[0]), mode="replicate")
    return torch.cat([row for part in image.split(height, -2) for row in part.split(width, -1)])


class Vgg19(nn.Module):
    """VGG-19 up to the highest of `layers` (indices of torchvision's ``features``; []: each block's last ReLU)."""

    def __init__(self, layers: list[int], weights: dict | None):
        super().__init__()
        features = make_layers(cfgs["E"])
        if weights is not None:
            prefix = "features."
            features.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        self.layers = sorted(layers or [3, 8, 17, 26, 35])
        self.blocks = features[: self.layers[-1] + 1]
        for block in self.blocks:
            if isinstance(block, nn.ReLU):
                block.inplace = False  # a kept map must not change after it is kept

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps at `layers` of (n, 3, y, x), ImageNet-standardised."""
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.layers:
                maps.append(x)
        return maps


class Sam(nn.Module):
    """The image encoder of the Segment Anything Model, for any size: its 64×64 position embedding is interpolated.

    `layers` are transformer blocks ([] is each block with global attention, the end of each of four parts); blocks
    beyond the highest are left out. Source: Kirillov et al. 2023; the package segment-anything.
    """

    def __init__(self, variant: str, layers: list[int], weights: dict | None):
        super().__init__()
        network = sam_model_registry[variant](checkpoint=None).image_encoder
        if weights is not None:
            prefix = "image_encoder."
            network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        whole = [index for index, block in enumerate(network.blocks) if block.window_size == 0]
        self.layers = sorted(layers or whole)
        self.patch_embed, self.pos_embed = network.patch_embed, network.pos_embed
        self.blocks = network.blocks[: self.layers[-1] + 1]
        for block in self.blocks:
            block.attn = Attention(block.attn)
        self.positions: dict[tuple, torch.Tensor] = {}  # by size and device; the weights stay as they are

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps (n, channels, y/16, x/16) after the blocks `layers` of (n, 3, y, x); y and x multiples of 16."""
        x = self.patch_embed(x)
        x = x + self._position(x.shape[1:3])
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.layers:
                maps.append(x.permute(0, 3, 1, 2))
        return maps

    def _position(self, size: torch.Size) -> torch.Tensor:
        if self.pos_embed.shape[1:3] == size:
            return self.pos_embed
        key = (*size, self.pos_embed.device)
        if key not in self.positions:
            grid = self.pos_embed.detach().permute(0, 3, 1, 2)
            found = functional.interpolate(grid, size, mode="bicubic", align_corners=False)
            self.positions[key] = found.permute(0, 2, 3, 1).contiguous()
        return self.positions[key]


class Attention(nn.Module):
    """The attention of one of `Sam`'s blocks, which on a GPU never holds the weights of all pairs of places.

    SAM adds to q·k of two places what q says of the row and of the column they lie apart. A query that also holds its
    word on each row and column, and a key that also holds a one at its own, have that sum as their product, so that
    torch's fused attention computes it. Same result within rounding (the package's own: `tests/networks`).
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, attention: Any):
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.heads, self.scale = attention.num_heads, attention.scale
        self.rows, self.columns = attention.rel_pos_h, attention.rel_pos_w

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, y, x, channels), of the same shape."""
        count, height, width, channels = x.shape
        parts = self.qkv(x).reshape(count, height, width, 3, self.heads, -1).permute(3, 0, 4, 1, 2, 5)
        q, k, v = parts.unbind(0)  # (n, heads, y, x, channels of a head) each
        row = torch.einsum("nahwc,hkc->nahwk", q, self._apart(self.rows, height, q))
        column = torch.einsum("nahwc,wkc->nahwk", q, self._apart(self.columns, width, q))
        spare = -(q.shape[-1] + height + width) % 8  # fused kernels want multiples of 8
        places = torch.arange(height * width, device=x.device)
        own = torch.cat([_ones(places // width, height, q), _ones(places % width, width, q)], -1)
        own = own.view(height, width, -1).expand(*k.shape[:4], -1)
        q = functional.pad(torch.cat([q * self.scale, row, column], -1), (0, spare)).flatten(2, 3)
        k = functional.pad(torch.cat([k, own], -1), (0, spare)).flatten(2, 3)
        v = v.flatten(2, 3)
        if torch.are_deterministic_algorithms_enabled():  # gradients of the fused ones have no order on a GPU
            seen = (q @ k.transpose(2, 3)).softmax(-1) @ v
        else:
            seen = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
        return self.proj(seen.transpose(1, 2).reshape(count, height, width, channels))

    def _apart(self, table: torch.Tensor, size: int, like: torch.Tensor) -> torch.Tensor:
        """(size, size, channels): of each place what `table` (rows by distance) holds for each other, interpolated
        where it was made for another size."""
        if len(table) != 2 * size - 1:
            table = functional.interpolate(table.T[None], 2 * size - 1, mode="linear")[0].T
        places = torch.arange(size, device=table.device)
        return table.to(like.dtype)[places[:, None] - places + size - 1]


def _ones(places: torch.Tensor, size: int, like: torch.Tensor) -> torch.Tensor:
    """(places, size): a one at each place."""
    return functional.one_hot(places, size).to(like.dtype)


class Scripted(nn.Module):
    """A TorchScript encoder, returning a map or a list of maps for the standardised image.

    Those published for IMPACT (such as SAM 2.1) standardise by themselves and take the number of layers and the
    input's range beside the image.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, path: Path, layers: list[int]):
        super().__init__()
        try:
            self.module = torch.jit.load(str(path), map_location="cpu")
        except (RuntimeError, ValueError) as fault:
            raise InputError(f"encoder {path}: not a TorchScript module ({str(fault).splitlines()[0]})") from None
        self.layers = sorted(layers)
        self.impact = len(self.module.forward.schema.arguments) > 2  # beside self and the image
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps at `layers` ([]: all) of (n, 3, y, x), ImageNet-standardised."""
        if self.impact:
            count = torch.tensor([self.layers[-1] + 1 if self.layers else 99])
            unit = torch.tensor([0.0, 1.0, 0.5, 1.0], device=x.device)  # minimum and maximum: [0, 1] stays as it is
            maps = self.module(x * self.deviation + self.mean, count, unit)
        else:
            maps = self.module(x)
        maps = [maps] if isinstance(maps, torch.Tensor) else list(maps)
        if self.layers and self.layers[-1] >= len(maps):
            raise InputError(f"training.perceptual layers {self.layers}: the encoder has {len(maps)} layers")
        return [maps[index] for index in self.layers] if self.layers else maps


class TotalSegmentator(nn.Module):
    """The encoder of TotalSegmentator's 3-D nnU-Net on single slices: stages `layers` ([]: the first four).

    A slice is a volume of depth 1, of which the kernels' middle planes alone see anything. Intensities are HU, clipped
    and standardised as the network's plans say. Source: Wasserthal et al. 2023; Isensee et al. 2021.
    """

    def __init__(self, network: nn.Module, properties: dict, layers: list[int], ct_range):
        super().__init__()
        self.properties, self.ct_range = properties, ct_range
        self.layers = sorted(layers or [0, 1, 2, 3])
        stages = list(network.get_submodule("stages").children())
        if self.layers[-1] >= len(stages):
            raise InputError(f"training.perceptual layers {self.layers}: the encoder has {len(stages)} layers")
        network.stages = nn.Sequential(*stages[: self.layers[-1] + 1])
        self.stem = in_plane(network)

    def forward(self, image: torch.Tensor, _reference: torch.Tensor) -> list[torch.Tensor]:
        """Maps (n, channels, y, x) of the stages `layers` for `image` (n, 1, y, x)."""
        p = self.properties
        hu = to_hu(image.float(), self.ct_range).clamp(p["percentile_00_5"], p["percentile_99_5"])
        maps = self.stem((hu - p["mean"]) / p["std"])
        return [maps[index] for index in self.layers]


class Mind(nn.Module):
    """The modality-independent neighbourhood descriptor in the plane, at each of `distances` (pixels).

    For the four neighbours r: D_r = 3×3 mean of (I(x) − I(x + r))², MIND_r = exp(−D_r / (mean_r D_r + 1e-4)). The floor
    (in squared units of the [-1, 1] CT; 1e-4 is about 20 HU) keeps noise in flat tissue quiet. Source: Heinrich et al.
    2012.
    """

    def __init__(self, distances: list[int]):
        super().__init__()
        self.distances = distances or [1, 2]

    def forward(self, image: torch.Tensor, _reference: torch.Tensor) -> list[torch.Tensor]:
        """One map (n, 4, y, x) per distance for `image` (n, 1, y, x)."""
        image = image.float()
        return [self._descriptor(image, distance) for distance in self.distances]

    def _descriptor(self, image: torch.Tensor, d: int) -> torch.Tensor:
        height, width = image.shape[-2:]
        wide = functional.pad(image, (d, d, d, d), mode="replicate")
        shifts = ((0, d), (2 * d, d), (d, 0), (d, 2 * d))
        moved = torch.cat([wide[..., y : y + height, x : x + width] for y, x in shifts], 1)
        difference = functional.avg_pool2d(functional.pad((image - moved) ** 2, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return torch.exp(-difference / (difference.mean(1, keepdim=True) + 1e-4))
