"""Feature extractors of the engines: MIND, TorchScript modules as IMPACT calls them, TotalSegmentator.

An extractor takes raw intensities (n, 1, z, y, x), the whole image's statistics [min, max, mean, sigma] and the 3×3
direction cosines, and returns the maps (n, c, z, y, x) of its kept layers. It normalises intensities itself.
"""

import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from synthct.core.errors import InputError
from synthct.networks import weights
from synthct.networks.nnunet import read_network
from synthct.registration.consistency import DESCRIPTORS, check_layers
from synthct.registration.dense.mind import mind
from synthct.registration.recipes import models_of

OTHERWISE = "or take an arm that needs no network, such as mi or mind"


def files(settings: dict) -> list[Path]:
    """The weights of the networks that `settings` (of the engine sampled or dense) compare, in their models' order.

    Reads nothing, so that it can be asked first. Raises one `InputError` that names all that are absent.
    """
    named = [model for model in models_of(settings).values() if not model["extractor"].startswith("MIND")]
    needs = [weights.of_extractor(m["extractor"], m["layers"], settings["weights"]) for m in named]
    return list(dict.fromkeys(weights.require(needs, otherwise=OTHERWISE)))


def extractors(settings: dict, device: str) -> dict[str, nn.Module]:
    """The extractors of the models with a positive weight, by the names of their tables; `settings` are those of a
    recipe with the engine "sampled" or "dense".

    Raises `InputError` where weights are absent or a module does not fit.
    """
    return {name: extractor(model, settings["weights"], device) for name, model in models_of(settings).items()}


def extractor(model: dict, given: str = "", device: str = "cpu") -> nn.Module:
    """The extractor that a table of ``registration.sampled.models`` or ``registration.dense.models`` describes.

    `extractor` is "MIND R1D2" (radius, dilation), "TS<number>" (TotalSegmentator data set, e.g. TS730; its trained
    nnU-Net or a TorchScript export of enough layers, in `given` or where `weights.places` says) or a TorchScript file;
    `layers` is IMPACT's bit string, one character an output. Raises `InputError` where weights are absent or the
    module does not fit.
    """
    name, layers = model["extractor"], model["layers"]
    check_layers(f"extractor {name}", name, layers)
    if name.startswith("MIND"):
        return Descriptors(name)
    (path,) = weights.require([weights.of_extractor(name, layers, given)], otherwise=OTHERWISE)
    number = weights.data_set(name)
    if number and path.suffix == ".pth":
        return TotalSegmentator(path.parent, layers, number).to(device).eval().requires_grad_(False)
    if number:  # an export may hold more layers than are compared, or no more than those
        return Scripted(path, layers[: layers.rindex("1") + 1], model["channels"], device, longer=True)
    return Scripted(path, layers, model["channels"], device)


class Descriptors(nn.Module):
    """MIND as an extractor with one layer of 12 channels; no weights."""

    def __init__(self, name: str):
        super().__init__()
        found = DESCRIPTORS.fullmatch(name)
        assert found is not None
        self._radius, self._dilation = map(int, found.groups())

    def forward(self, x: torch.Tensor, _stats: torch.Tensor, _direction: torch.Tensor) -> list[torch.Tensor]:
        """Descriptors (n, 12, z, y, x) of every image of the batch."""
        return [mind(x[:, 0], self._radius, self._dilation)]


class Scripted(nn.Module):
    """A TorchScript module with IMPACT's call signature: (x[, number of layers[, statistics, direction]]).

    Exports that take the image alone are of before 2026, when the metric still normalised for them: they get the image
    less its mean, over its sigma. All later ones normalise themselves. `longer`: outputs beyond `layers` may follow.
    """

    def __init__(self, path: Path, layers: str, channels: int, device: str, longer: bool = False):
        super().__init__()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch means to replace TorchScript; IMPACT's are such
                self.module = torch.jit.load(str(path), map_location=device).eval()
        except RuntimeError as fault:
            raise InputError(f"extractor {path}: not a TorchScript module ({_line(fault)})") from None
        for parameter in self.module.parameters():
            parameter.requires_grad = False  # the gradient goes to the image alone
        self._path, self._layers, self._channels, self._longer = path, layers, channels, longer
        self._arguments = len(self.module.forward.schema.arguments) - 1  # "self" is the first

    def forward(self, x: torch.Tensor, stats: torch.Tensor, direction: torch.Tensor) -> list[torch.Tensor]:
        """The kept layers' maps."""
        if self._arguments == 1:
            x = (x - stats[2]) / (stats[3] + 1e-6)
        rest = (torch.tensor(len(self._layers), device=x.device), stats, direction.round().to(torch.int16))
        arguments = (x.repeat(1, self._channels, 1, 1, 1), *rest)[: self._arguments]
        try:
            maps = self.module(*arguments)
        except RuntimeError as fault:
            raise InputError(
                f"extractor {self._path}: fails on {self._channels} channels of "
                f"{'×'.join(map(str, x.shape[2:]))} voxels ({_line(fault)})"
            ) from None
        maps = [maps] if isinstance(maps, torch.Tensor) else list(maps)
        if len(maps) != len(self._layers) and not (self._longer and len(maps) > len(self._layers)):
            raise InputError(
                f"extractor {self._path}: {len(maps)} outputs, layers {self._layers!r} names {len(self._layers)}"
            )
        return [feature for feature, keep in zip(maps, self._layers, strict=False) if keep == "1"]


class TotalSegmentator(nn.Module):
    """Layers of a TotalSegmentator nnU-Net: 1 to 6 the encoder's blocks, 7 the last block of the decoder.

    CT networks standardise with their data set's fingerprint (unclipped, as the authors' export), MR networks with
    the image's own mean and sigma. The networks know RAS axes: x and y of an LPS array are flipped on the way in and
    out.
    """

    def __init__(self, place: Path, layers: str, number: str):
        super().__init__()
        self.network, properties = read_network(place)
        self._mr, self._mean, self._sigma = number in weights.MR_NETWORKS, properties["mean"], properties["std"]
        self._encoder_layers = len(self.network.encoder.stages)
        if len(layers) > self._encoder_layers + 1:
            raise InputError(f"layers {layers!r}: TS{number} has {self._encoder_layers + 1} layers to compare")
        self._keep = [k for k, bit in enumerate(layers) if bit == "1"]

    def forward(self, x: torch.Tensor, stats: torch.Tensor, direction: torch.Tensor) -> list[torch.Tensor]:
        """The kept layers' maps, each at its own resolution; stages beyond the last of them do not run.

        For the decoder the image is continued to a multiple of the network's strides, and its maps cut back.
        """
        axes = [4 - a for a in range(2) if direction[a, a] >= 0]  # RAS networks, LPS arrays
        mean, sigma = (stats[2], stats[3]) if self._mr else (self._mean, self._sigma)
        x = ((x - mean) / (sigma + 1e-6)).flip(axes)
        encoder, decoder = self.network.encoder, self.network.decoder
        size, wanted = x.shape[2:], self._keep[-1] + 1
        if wanted > self._encoder_layers:
            total = torch.tensor(encoder.strides).prod(0).tolist()
            more = [-n % stride for n, stride in zip(size, total, strict=True)]
            x = functional.pad(x, [p for n in more[::-1] for p in (0, n)], mode="replicate")
        maps: list[torch.Tensor] = []
        for stage in encoder.stages[: wanted if wanted <= self._encoder_layers else None]:
            maps.append(stage(maps[-1] if maps else x))
        if wanted > self._encoder_layers:
            low = maps[-1]
            for k, (up, stage) in enumerate(zip(decoder.transpconvs, decoder.stages, strict=True)):
                low = stage(torch.cat((up(low), maps[-(k + 2)]), 1))
            maps = [*maps[: self._encoder_layers], low]
        return [_cut(maps[k], x.shape[2:], size).flip(axes) for k in self._keep]


def _cut(layer: torch.Tensor, padded: torch.Size, size: torch.Size) -> torch.Tensor:
    """A map (n, c, z, y, x) of an image that was continued to `padded`, without what lies beyond `size`."""
    z, y, x = (-(-m * n // p) for m, p, n in zip(layer.shape[2:], padded, size, strict=True))
    return layer[:, :, :z, :y, :x]


def _line(fault: Exception) -> str:
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(fault).__name__
